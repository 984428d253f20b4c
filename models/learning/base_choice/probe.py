"""A probe: how well a head on a base's frozen features answers rows that it has not learned."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from models.backbones.backbone import TokenizedInput
from models.backbones.loading import Backbone
from models.learning.base_choice import policy
from models.learning.contract.base_choice import BaseProbe
from models.learning.data import features
from models.learning.data.corpus import Corpus
from models.learning.data.folds import subsample
from models.learning.evaluation.assessment import HeldOut, assess
from models.learning.heads import selection
from models.learning.heads.cross_validation import DesignMatrix, FitContext
from models.learning.heads.selection import PenaltyStart
from models.learning.tasks.task import EncoderTask, Tally


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a probe, the same for every base."""

    corpus: Corpus  # targets as the task encodes them
    task: EncoderTask
    seed: int
    stop: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Probe:
    """The result for one base. `tally` has a row per row of the probe, or per group of them: probes compare paired."""

    figures: BaseProbe
    revision: str
    tally: Tally


def draw(corpus: Corpus, backbone: Backbone, rows: Rows) -> Rows:
    """Return the same with at most `policy.ROWS` of the rows, every class by its share.

    Any base will do: some targets are only known once a base has cut its texts into words.
    """
    task = rows.task
    tokens = task.view(backbone, corpus.inputs).tokenize(corpus.inputs)
    strata_N = task.strata(task.align(corpus.targets, tokens))
    return replace(rows, corpus=corpus.take(subsample(strata_N, policy.ROWS, seed=rows.seed)))


def measure(name: str, backbone: Backbone, rows: Rows) -> Probe:
    """Encode the rows with the base's default features and cross-validate a head on them. Raises Stopped.

    Of a text that is longer than the base's longest input its beginning is read: a probe is to be cheap.
    """
    began = time.monotonic()
    corpus, task = rows.corpus, rows.task
    view = task.view(backbone, corpus.inputs)
    tokens: list[TokenizedInput] = view.tokenize(corpus.inputs)
    default, names = next(iter(view.feature_sets().items()))
    plain = features.plain(names)
    found = features.split(view.encode_tokens(tokens, plain, stop=rows.stop), plain, view)
    encoded_s = time.monotonic() - began
    targets = task.align(corpus.targets, tokens)
    context = FitContext(task, task.outputs(corpus.labels), view.device, view.threads, rows.seed, rows.stop)
    choice = selection.choose(
        DesignMatrix(found, targets), None, {default: names}, context, PenaltyStart(), corpus.groups.group_N
    )
    held = HeldOut.out_of_fold(targets, choice.fold_N, corpus.groups.numbers)
    assessment = assess(choice.logits_NK, held, task, seed=rows.seed)
    score = assessment.interval
    figures = BaseProbe(
        base=name,
        parameters=backbone.entry.parameters,
        score=score.value,
        score_low=score.low,
        score_high=score.high,
        ms_per_row=1000 * encoded_s / max(len(corpus), 1),
        seconds=time.monotonic() - began,
    )
    return Probe(figures, backbone.revision, assessment.tally.by_group(corpus.groups.numbers))
