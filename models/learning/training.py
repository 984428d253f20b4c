"""One training run from file to versions, as a stream of events. Slow parts ask `stop` and report how far they are."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import cast

import torch

from models.backbones.loading import Backbone
from models.backbones.parallel import one_thread_each
from models.backbones.writing import DecoderBackbone
from models.learning import learners, tasks
from models.learning.activity import Activity
from models.learning.activity import report as report_activity
from models.learning.contract.events import Finished, Progress, TrainEvent, VersionReady
from models.learning.contract.request import TrainRequest
from models.learning.data.corpus import Corpus, read_training, read_validation
from models.learning.report import ReportBuilder
from models.learning.run import Run
from models.learning.tasks.task import Task

__all__ = ["train"]


def train(
    request: TrainRequest, backbone: Backbone | DecoderBackbone, *, stop: Callable[[], bool]
) -> Iterator[TrainEvent]:
    """Train one model: `Progress* (VersionReady Progress*)+ Finished`.

    Artifacts are written below `request.output_dir`, one folder per candidate. Raises Stopped soon after `stop()`
    returns True, InvalidRequest errors for what the customer can mend, other GraftErrors for what is ours.
    """
    with one_thread_each():
        # A learner asks for the kind of base that it needs: `Learner.check`.
        yield from _train(request, cast("Backbone", backbone), stop)


def _train(request: TrainRequest, backbone: Backbone, stop: Callable[[], bool]) -> Iterator[TrainEvent]:
    activity = Activity(stop)
    yield from report_activity(_steps(request, backbone, activity), activity)


def _steps(request: TrainRequest, backbone: Backbone, stop: Callable[[], bool]) -> Iterator[TrainEvent]:
    torch.manual_seed(request.seed)
    task = tasks.find(request.task)
    learner = learners.find(request.task)
    learner.check(request, backbone)
    run = yield from _read(request, backbone, task, stop)
    if request.base_choice is not None:
        run.report.state(base_choice=request.base_choice)
    best: VersionReady | None = None
    for event in learner.train(run):
        if isinstance(event, VersionReady) and (best is None or event.improves):
            best = event
        yield event
    if best is None:
        raise RuntimeError(f"the learner of {request.task} ended without a version")
    yield Finished(
        best=best.name,
        report=run.report.final(best.report),
        trained_rows=len(run.training),
        trained_tokens=run.report.tokens,
        seconds=run.report.elapsed_s(),
        outcomes=run.report.outcomes,
        comparison=run.report.comparison,
        curve=run.report.curve,
    )


def _read(
    request: TrainRequest, backbone: Backbone, task: Task, stop: Callable[[], bool]
) -> Generator[TrainEvent, None, Run]:
    report = ReportBuilder()
    yield Progress("reading", 0.0)
    corpus, task, replaced = read_training(request.training, task, request.hyperparameters.rare())
    held = read_validation(request.validation, task, corpus, replaced) if request.validation else None
    if held is not None:
        corpus = replace(corpus, left_out={**corpus.left_out, "validation": held.left_out})
        _warn_of_leakage(report, held)
        held = held if len(held) else None
    report.add_seconds("reading", report.elapsed_s())
    yield Progress("reading", 1.0, f"{len(corpus)} rows{_labels(corpus)}{_left_out(corpus)}")
    return Run(request, backbone, task, corpus, held, stop, report)


def _warn_of_leakage(report: ReportBuilder, held: Corpus) -> None:
    known, rows = held.left_out["in_training"], held.left_out["rows"]
    if not known:
        return
    instead = "held-out rows of the training file are scored instead" if not len(held) else "they are not scored"
    message = f"{known} of the {rows} rows of the validation file are in the training file, too: {instead}."
    report.add_warning("validation_in_training", message, count=known)


def _labels(corpus: Corpus) -> str:
    return f", {len(corpus.labels)} labels" if corpus.labels else ""


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
