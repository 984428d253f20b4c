"""Tokens and frozen features of a run's rows, which every step of the encoders' learner shares."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from models.backbones.backbone import TokenizedInput
from models.backbones.loading import Backbone
from models.datasets.examples import Input
from models.learning.contract.errors import InvalidHyperparameters
from models.learning.contract.events import Progress, TrainEvent
from models.learning.contract.request import TrainRequest
from models.learning.data import features, groups, long_texts, similarity
from models.learning.data.corpus import Corpus
from models.learning.data.folds import subsample
from models.learning.evaluation.assessment import Assessment, HeldOut
from models.learning.report import ReportBuilder
from models.learning.run import Run
from models.learning.tasks import encoder_task
from models.learning.tasks.task import EncoderTask, Floats

# Of frozen features in memory; fitting a head takes up to three times as much beside them. A head on 80,000 texts, or
# on 100,000 words, gains nothing from more of them.
_FEATURE_BYTES = 2**30
# Tokenised between two looks at whether to stop.
_ROWS_AT_ONCE = 4_096


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """A corpus with its tokens and frozen features."""

    corpus: Corpus  # targets: one per vector that the base has of a row
    tokens: list[TokenizedInput]
    features: dict[str, Floats]

    @property
    def token_count(self) -> int:
        """Tokens of one pass over the rows."""
        return sum(len(row) for row in self.tokens)


@dataclass(frozen=True, slots=True)
class Measured:
    """A candidate's assessment, and the held-out rows on which it was made."""

    assessment: Assessment
    held: HeldOut
    unlabeled: Corpus | None = None  # rows without labels that it has learned from


@dataclass(frozen=True, slots=True)
class EncodedRun:
    """A run with everything that heads and fine-tuning need, prepared once."""

    run: Run
    backbone: Backbone  # as the task reads the inputs
    task: EncoderTask
    training: EncodedRows
    validation: EncodedRows | None
    extra_rows: EncodedRows | None  # more than a head needs, without features; fine-tuning trains on them as well
    measured: dict[str, Measured] = field(default_factory=dict)  # by candidate, as they are published

    @property
    def request(self) -> TrainRequest:
        """The request of the run."""
        return self.run.request

    @property
    def report(self) -> ReportBuilder:
        """The report of the run, not complete yet."""
        return self.run.report

    @property
    def stop(self) -> Callable[[], bool]:
        """Function that returns whether the caller asked the run to end."""
        return self.run.stop

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, in the order of the outputs."""
        return self.run.labels

    @property
    def rows_read(self) -> int:
        """Rows of the training file."""
        return len(self.run.training)

    @property
    def outputs(self) -> int:
        """Logits of a prediction."""
        return self.task.outputs(self.labels)


def encode(run: Run) -> Generator[TrainEvent, None, EncodedRun]:
    """Tokenise all rows and compute their features. Raises InvalidHyperparameters for unknown ones, Stopped."""
    task, held = encoder_task(run.task), run.validation
    backbone = task.view(run.backbone, run.training.inputs + ([] if held is None else held.inputs))
    began = time.monotonic()
    steps = share(run.request.strategy, 25, 60)
    encoder = _Encoder(run, backbone, task)
    training, extra_rows = yield from encoder.rows(run.training, begins=1.0, ends=steps)
    if held is None and training.corpus.groups.warning:
        run.report.add_warning("similar_rows_kept_apart", training.corpus.groups.warning)
    validation = None
    if held is not None:
        validation, _ = yield from encoder.rows(held, begins=steps, ends=steps)
    run.report.add_seconds("encoding", time.monotonic() - began)
    run.report.add_tokens(training.token_count)
    return EncodedRun(run, backbone, task, training, validation, extra_rows)


def asked_features(request: TrainRequest, backbone: Backbone) -> tuple[str, ...]:
    """Return the features that the customer named, () for `auto`. Raises InvalidHyperparameters."""
    asked = request.hyperparameters.features
    if asked == "auto":
        return ()
    sets = backbone.feature_sets()
    if asked in sets:
        return sets[asked]
    names = tuple(name.strip() for name in asked.split(","))
    try:
        for name in names:
            backbone.parse_feature(name)
    except ValueError as error:
        reason = f"{error}; or name one of {', '.join(sets)}"
        raise InvalidHyperparameters(name="features", value=asked, reason=reason) from error
    return names


def share(strategy: str, searched: float, plain: float) -> float:
    """Return the percent of the run at some point: the search, if there may be any, takes the larger part."""
    return plain if strategy in ("head", "zero-shot") else searched


class _Encoder:
    """Computes features of rows by one base."""

    def __init__(self, run: Run, backbone: Backbone, task: EncoderTask) -> None:
        self._run, self._backbone, self._task = run, backbone, task
        sets = (*backbone.feature_sets().values(), asked_features(run.request, backbone))
        self._names = features.plain([name for members in sets for name in members])

    def rows(
        self, corpus: Corpus, *, begins: float, ends: float
    ) -> Generator[TrainEvent, None, tuple[EncodedRows, EncodedRows | None]]:
        """Return the rows with features, as many as fit into memory, and the others without."""
        run, backbone = self._run, self._backbone
        tokens = self._tokenize(corpus.inputs)
        long = long_texts.describe(run.backbone, corpus, tokens)
        for message in long_texts.messages(long):
            yield Progress("encoding", begins, message)
        targets = self._task.align(corpus.targets, tokens)
        corpus = replace(corpus, targets=targets, left_out={**corpus.left_out, **long})
        corpus, tokens, extra_rows = self._divide(corpus, tokens)
        cache_dir = run.request.feature_cache_dir
        steps = features.compute(corpus, tokens, self._names, backbone, cache_dir=cache_dir, stop=run.stop)
        began = time.monotonic()
        # Estimated for the whole run, so only where a head is all that follows: how long a search takes is not known.
        estimated = share(run.request.strategy, 0, 1) == 1
        while True:
            try:
                done = next(steps)
            except StopIteration as end:
                found: dict[str, Any] = end.value
                corpus = self._join_similar(corpus, found)
                if corpus.groups.message:
                    yield Progress("encoding", ends, corpus.groups.message)
                return EncodedRows(corpus, tokens, found), extra_rows
            percent, remaining = begins + (ends - begins) * done, None
            if estimated and percent > begins:
                remaining = (time.monotonic() - began) * (100 - percent) / (percent - begins)
            yield Progress("encoding", percent, seconds_remaining=remaining)

    def _join_similar(self, corpus: Corpus, found: dict[str, Any]) -> Corpus:
        """Return the corpus with rows in one group whose frozen features are alike."""
        run, base = self._run, self._backbone
        least = groups.LEAST_COSINE.get(base.entry.modality)
        if least is None or corpus.groups.stated:
            return corpus
        features_ND = found[base.probe(base.blocks)]
        similar_N = similarity.components(features_ND, least, seed=run.request.seed, check_stop=run.check_stop)
        return replace(corpus, groups=corpus.groups.join(similar_N, self._task.strata(corpus.targets)))

    def _tokenize(self, inputs: Sequence[Input]) -> list[TokenizedInput]:
        tokens: list[TokenizedInput] = []
        for start in range(0, len(inputs), _ROWS_AT_ONCE):
            self._run.check_stop()
            tokens += self._backbone.tokenize(inputs[start : start + _ROWS_AT_ONCE])
        return tokens

    def _divide(
        self, corpus: Corpus, tokens: list[TokenizedInput]
    ) -> tuple[Corpus, list[TokenizedInput], EncodedRows | None]:
        """Divide the rows into those whose features fit into `_FEATURE_BYTES`, drawn by strata, and the others."""
        counts_N = self._backbone.units(tokens)
        vectors = len(corpus) if counts_N is None else int(counts_N.sum())
        needed = 4 * vectors * sum(self._backbone.feature_width(name) for name in self._names)
        if needed <= _FEATURE_BYTES:
            return corpus, tokens, None
        fitting = max(4, int(len(corpus) * _FEATURE_BYTES / needed))
        rows = subsample(self._task.strata(corpus.targets), fitting, seed=self._run.request.seed)
        others = np.setdiff1d(np.arange(len(corpus)), rows)
        extra_rows = EncodedRows(corpus.take(others), [tokens[row] for row in others], {})
        return corpus.take(rows), [tokens[row] for row in rows], extra_rows
