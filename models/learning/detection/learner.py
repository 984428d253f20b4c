"""Learner of boxes: heads on the frozen base first, then the base too, if it finds more."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

from models.backbones.loading import Backbone
from models.learning.contract import strategies as offered
from models.learning.contract.errors import Diverged
from models.learning.contract.events import Progress, TrainEvent
from models.learning.contract.request import TrainRequest
from models.learning.detection import families, live, strategies
from models.learning.detection import fit as fits
from models.learning.detection import material as materials
from models.learning.detection.fit import DetectionRun
from models.learning.detection.judging import Judge, Judgement
from models.learning.detection.material import Material
from models.learning.detection.model import DetectionModel, copy_weights, put_weights
from models.learning.evaluation import scores
from models.learning.publishing import Trained, publish
from models.learning.run import Run

FIRST, HEAD = "head-first", "head"  # the first version is the same fit as `head`, after a part of its steps
_BEGINS, _ENDS = 3.0, 97.0  # percent of the run
_HEAD_ENDS = 40.0  # of one whose base trains behind it
_BETTER = 0.9  # probability at which a trained base replaces the frozen one
# Probability below which the whole fit is worse than its first part. More steps are better by themselves, and the score
# of few pictures says little: of raccoon_det's 160, 20 are held out, on which the part with AP50 0.87 on the 40 of the
# test beat the whole one.
_WORSE = 0.1
_NOTHING_LEFT = 0.02  # errors of a head, behind which `auto` tries nothing more


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model, and what it found in the held-out pictures."""

    model: DetectionModel
    judgement: Judgement


class DetectionLearner:
    """Learner of `object-detection`; see `learner.Learner`."""

    def check(self, request: TrainRequest, backbone: Backbone) -> None:
        """Raise NoMaps for a base that neither has maps nor is a detector, UnsupportedStrategy.

        Raises InvalidHyperparameters for a strategy that could train none of the base's blocks.
        """
        family = families.find(backbone)
        offered.check(request.strategy, request.task, backbone.entry)
        last = family.behind_head if request.strategy == "auto" else request.strategy
        strategies.check(last, request.hyperparameters)

    def train(self, run: Run) -> Iterator[TrainEvent]:
        """Yield a detector after a part of its steps, then the whole one, then one whose base has learned as well."""
        backbone: Any = run.backbone
        family = families.find(backbone)
        yield Progress("encoding", 1.5, "Measuring the pictures and their boxes")
        run = family.join_similar(run)
        if message := run.training.groups.message:
            yield Progress("encoding", 2.0, message)
        material = materials.collect(run, family.levels())
        if message := material.sampling:
            run.report.add_warning(
                "validation_sampled", f"{message}.", scored=len(material.held), count=material.sampled_from
            )
            yield Progress("encoding", 2.5, message)
        run.report.state(**_facts(run, material), baseline={"majority": 0.0, "gate": 0.0})
        detection = DetectionRun(run, backbone, family, material, Judge(run, backbone, material))
        best = yield from _train_head(detection)
        strategy = _next(run, best, family.behind_head)
        if strategy:
            best = yield from _train_base(detection, best, strategy)
        if (serving := run.request.live) is not None:
            yield Progress("evaluating", _ENDS, f"Comparing with version {serving.number}, which is live")
            run.report.keep_comparison(live.compare(detection, serving, best.judgement))


def _train_head(detection: DetectionRun) -> Generator[TrainEvent, None, Candidate]:
    """Fit the heads; publish them early, and at the end unless they got clearly worse. Return the better one."""
    run, judge = detection.run, detection.judge
    fit = fits.prepare_head(detection, _BEGINS, _ENDS if run.request.strategy == HEAD else _HEAD_ENDS)
    loop, config = fit.loop, fit.config
    soon = strategies.first_steps(config)
    name = FIRST if soon < config.steps else HEAD
    kept = fits.checkpoints_of(detection, config, name)
    yield from fits.steps(detection, fit, soon, kept)
    if kept is not None:  # a later attempt publishes the same first version, and goes on from there
        loop.save(kept)
    held = judge.views(loop.model)
    with loop.averaged() as model:
        early, early_weights = judge.judge(model, held), copy_weights(model)
        fits.note(detection, fit, name, early)
        run.report.add_seconds("first_version", run.report.elapsed_s())
        yield Progress("evaluating", fit.percent, metrics={"ap50": early.score})
        yield from _publish(detection, fits.trained(detection, fit, name, model, early), improves=True)
    if name == HEAD:
        return Candidate(loop.end(), early)
    fit = fits.within_budget(detection, fit)
    if fit.config.steps <= loop.done:
        run.report.add_tried(HEAD, abandoned="no further step fits into the budget for refinement")
        return Candidate(loop.end(), early)
    figures = {}
    if fit.config.steps < config.steps:
        figures["reduced"] = f"to fit into the budget for refinement: {fit.config.steps} of {config.steps} steps"
        yield Progress("fitting", fit.percent, f"head: reduced {figures['reduced']}")
    yield from fits.steps(detection, fit, fit.config.steps, fits.checkpoints_of(detection, fit.config, HEAD))
    model = loop.end()
    final = judge.judge(model, held)
    compared = scores.compare(final.tally, early.tally, seed=run.request.seed)
    fits.note(detection, fit, HEAD, final, compared, **figures)
    run.report.add_seconds("head", time.monotonic() - fit.began)
    yield Progress("evaluating", fit.percent, metrics={"ap50": final.score})
    better = compared.gain >= 0 or compared.probability > _WORSE
    yield from _publish(detection, fits.trained(detection, fit, HEAD, model, final), improves=better)
    if better:
        return Candidate(model, final)
    put_weights(model, early_weights)
    return Candidate(model, early)


def _train_base(detection: DetectionRun, head: Candidate, strategy: str) -> Generator[TrainEvent, None, Candidate]:
    """Train blocks of the base behind the head; `auto` publishes them only if they are better on the same pictures."""
    run, judge = detection.run, detection.judge
    auto = run.request.strategy == "auto"
    yield Progress("refining", _HEAD_ENDS, f"{strategy}: training the base behind the head")
    fit = fits.prepare_base(detection, head.model, strategy, _HEAD_ENDS, _ENDS)
    try:
        yield from fits.steps(detection, fit, fit.config.steps, fits.checkpoints_of(detection, fit.config, strategy))
    except Diverged:
        if not auto:
            raise
        run.report.add_tried(strategy, diverged=True, seconds=time.monotonic() - fit.began)
        return head
    model = fit.loop.end()
    judgement = judge.judge(model, judge.views(model))
    compared = scores.compare(judgement.tally, head.judgement.tally, seed=run.request.seed)
    fits.note(detection, fit, strategy, judgement, compared)
    run.report.add_seconds("refining", time.monotonic() - fit.began)
    yield Progress("evaluating", _ENDS, metrics={"ap50": judgement.score})
    better = compared.probability >= _BETTER if auto else judgement.score >= head.judgement.score
    if better or not auto:
        trained = fits.trained(detection, fit, strategy, model, judgement)
        yield from _publish(detection, trained, improves=better)
    return Candidate(model, judgement) if better else head


def _next(run: Run, head: Candidate, behind_head: str) -> str | None:
    """Return the strategy behind the head: the one that was asked for; None where nothing is worth trying."""
    strategy = run.request.strategy
    if strategy == HEAD:
        return None
    if strategy != "auto":
        return str(strategy)
    left = 1.0 - head.judgement.score
    reason = f"the head leaves {left:.1%} to win"
    run.report.state(refinement={"strategy": behind_head if left > _NOTHING_LEFT else None, "reason": reason})
    return behind_head if left > _NOTHING_LEFT else None


def _publish(detection: DetectionRun, trained: Trained, *, improves: bool) -> Iterator[TrainEvent]:
    version = publish(detection.run, trained, improves=improves)
    live.record_rows(detection, version.artifact_dir)
    yield version


def _facts(run: Run, material: Material) -> dict[str, Any]:
    """Return the report's facts of the data."""
    facts = run.describe(run.training, tokens=0)
    data = {
        **facts["data"],
        "rows_of_head": len(material.training),
        "held_out_rows": len(material.held),
        "boxes": sum(len(each.truth) for each in material.training),
        "pictures_without_boxes": sum(not len(each.truth) for each in material.training),
        "canvas": {"height": material.canvas.height, "width": material.canvas.width},
        "strides": [level.stride for level in material.levels],
    }
    return {**facts, "data": data}
