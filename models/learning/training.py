"""One training run from file to artifacts, as a stream of events. Slow parts ask `stop` and report how far they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from models.backbones.backbone import Row
from models.backbones.loading import Backbone
from models.backbones.parallel import one_thread_each
from models.learning import tasks
from models.learning.contract.errors import NoLinearLayers
from models.learning.contract.events import Finished, Progress, TrainEvent, VersionReady
from models.learning.contract.request import TrainRequest
from models.learning.data import features
from models.learning.data.corpus import Corpus, read_training, read_validation
from models.learning.data.folds import subsample
from models.learning.heads import first_version
from models.learning.run import Rows, Run
from models.learning.search import outcomes, search
from models.learning.search import situation as situations

__all__ = ["train"]

# Of frozen features in memory; fitting a head takes up to three times as much beside them. A head on 80,000 texts, or
# on 100,000 words, gains nothing from more of them.
_FEATURE_BYTES = 2**30


def train(request: TrainRequest, backbone: Backbone, *, stop: Callable[[], bool]) -> Iterator[TrainEvent]:
    """Train one model: `Progress* (VersionReady Progress*)+ Finished`.

    Artifacts are written below `request.output_dir`, one folder per candidate. Raises Stopped soon after `stop()` says
    True, InvalidRequest errors for what the customer can mend, other GraftErrors for what is ours.
    """
    with one_thread_each():
        yield from _train(request, backbone, stop)


def _train(request: TrainRequest, backbone: Backbone, stop: Callable[[], bool]) -> Iterator[TrainEvent]:
    torch.manual_seed(request.seed)
    run = yield from _prepare(request, backbone, stop)
    first = first_version.measure(run, outcomes.head_prior(run))
    situation = situations.measure(run, first)
    run.report["situation"] = situation.as_dict()
    yield Progress("fitting", _share(run, 30, 90), metrics={"score": first.trained.assessment.score.value})
    best = first_version.publish(run, first)
    yield best
    candidates: list[VersionReady] = [best]
    for event in search.refine(run, first, situation):
        if isinstance(event, VersionReady):
            candidates.append(event)
            if event.improves:
                best = event
        yield event
    report = {
        **best.report,
        **run.report,
        "strategies_tried": list(run.tried),
        "seconds": {**run.seconds, "total": run.elapsed()},
    }
    yield Finished(
        best=best.name,
        report=report,
        trained_rows=run.rows_read,
        trained_tokens=run.tokens_used,
        seconds=run.elapsed(),
        outcomes=run.outcomes,
    )


def _prepare(request: TrainRequest, backbone: Backbone, stop: Callable[[], bool]) -> Generator[TrainEvent, None, Run]:
    began = time.monotonic()
    if request.strategy == "lora" and not backbone.linear:
        raise NoLinearLayers(base=backbone.entry.name)
    task = tasks.find(request.task)
    yield Progress("reading", 0.0)
    corpus, task, replaced = read_training(request.training, task, request.hyperparameters.rare())
    held = read_validation(request.validation, task, corpus, replaced) if request.validation else None
    if held is not None:
        corpus = replace(corpus, left_out={**corpus.left_out, "validation": held.left_out})
        held = held if len(held) else None
    seconds = {"reading": time.monotonic() - began}
    run = Run(
        request=request,
        backbone=task.view(backbone, corpus.inputs if held is None else [*corpus.inputs, *held.inputs]),
        task=task,
        stop=stop,
        training=Rows(corpus, [], {}),
        validation=None,
        began=began,
        seconds=seconds,
    )
    yield Progress("reading", 1.0, f"{len(corpus)} rows, {len(corpus.labels)} labels{_left_out(corpus)}")
    begun = time.monotonic()
    run.training, run.surplus = yield from _encode(run, corpus, begins=1.0)
    if held is not None:
        run.validation, _ = yield from _encode(run, held, begins=_share(run, 25, 60))
    seconds["encoding"] = time.monotonic() - begun
    run.tokens_used = run.training.token_count
    return run


def _left_out(corpus: Corpus) -> str:
    """Say which rows of the files are not used."""
    parts = []
    if "rare_labels" in corpus.left_out:
        rare = corpus.left_out["rare_labels"]
        parts.append(f"{len(rare['labels'])} rare labels ({rare['rule']})")
    held = corpus.left_out.get("validation", {"in_training": 0})
    if held["in_training"]:
        every = held["in_training"] == held["rows"] - held.get("with_rare_labels", 0)
        instead = ": held-out training rows are scored instead" if every else " and not scored"
        parts.append(f"{held['in_training']} rows of the validation file are in the training file, too{instead}")
    return "".join(f"; {part}" for part in parts)


def _encode(run: Run, corpus: Corpus, *, begins: float) -> Generator[TrainEvent, None, tuple[Rows, Rows | None]]:
    """The rows with features, as many as fit into memory, and the others without."""
    sets = run.backbone.feature_sets()
    names = features.plain(
        [name for members in (*sets.values(), first_version.asked_features(run)) for name in members]
    )
    tokens = run.backbone.tokenize(corpus.inputs)
    corpus = replace(corpus, targets=run.task.align(corpus.targets, tokens))
    corpus, tokens, surplus = _divide(run, corpus, tokens, names)
    steps = features.compute(
        corpus, tokens, names, run.backbone, cache_dir=run.request.feature_cache_dir, stop=run.stop
    )
    ends, begun = _share(run, 25, 60), time.monotonic()
    while True:
        try:
            share = next(steps)
        except StopIteration as end:
            found: dict[str, Any] = end.value
            return Rows(corpus, tokens, found), surplus
        spent = time.monotonic() - begun
        percent = begins + (ends - begins) * share
        # Foretold for the whole run, so only where a head is all that follows: how long refinement takes is not known.
        known = percent > begins and _share(run, 0, 1) == 1
        remaining = spent * (100 - percent) / (percent - begins) if known else None
        yield Progress("encoding", percent, seconds_remaining=remaining)


def _divide(run: Run, corpus: Corpus, tokens: list[Row], names: list[str]) -> tuple[Corpus, list[Row], Rows | None]:
    """What fits into `_FEATURE_BYTES`, drawn by strata, and what does not."""
    counts_N = run.backbone.units(tokens)
    vectors = len(corpus) if counts_N is None else int(counts_N.sum())
    needed = 4 * vectors * sum(run.backbone.feature_width(name) for name in names)
    if needed <= _FEATURE_BYTES:
        return corpus, tokens, None
    fitting = max(4, int(len(corpus) * _FEATURE_BYTES / needed))
    rows = subsample(run.task.strata(corpus.targets), fitting, seed=run.request.seed)
    others = np.setdiff1d(np.arange(len(corpus)), rows)
    surplus = Rows(corpus.take(others), [tokens[row] for row in others], {})
    return corpus.take(rows), [tokens[row] for row in rows], surplus


def _share(run: Run, refined: float, plain: float) -> float:
    """Percent of the run at some point: refinement, if there may be any, takes the larger part."""
    return plain if run.request.strategy in ("head", "zero-shot") else refined
