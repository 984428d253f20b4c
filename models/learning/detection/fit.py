"""One fit of a run: its model and its loop, its events and checkpoints, and what it is published as."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

from models.backbones.maps import PictureBase
from models.learning import loss_curve
from models.learning.contract.events import CurvePoint, Progress, TrainEvent
from models.learning.detection import strategies
from models.learning.detection.checkpoints import Checkpoints
from models.learning.detection.families import Family
from models.learning.detection.frozen import FrozenViews
from models.learning.detection.judging import Judge, Judgement
from models.learning.detection.material import Material
from models.learning.detection.model import DetectionModel
from models.learning.detection.strategies import TrainingConfig
from models.learning.detection.training_loop import Step, TrainingLoop
from models.learning.evaluation import scores
from models.learning.evaluation.scores import Comparison
from models.learning.publishing import Trained
from models.learning.run import Run

CHECKPOINT_S = 20.0


@dataclass(frozen=True, slots=True)
class DetectionRun:
    """A run whose pictures are measured and split."""

    run: Run
    backbone: PictureBase
    family: Family
    material: Material
    judge: Judge


@dataclass(frozen=True, slots=True)
class Fit:
    """One fit: its model is the loop's; `begins` and `ends` are its share of the run, in percent."""

    config: TrainingConfig
    loop: TrainingLoop
    begins: float
    ends: float
    began: float
    budget_s: float = math.inf

    @property
    def percent(self) -> float:
        """How far the run is."""
        return self.begins + (self.ends - self.begins) * self.loop.done / self.config.steps


def prepare_head(detection: DetectionRun, begins: float, ends: float) -> Fit:
    """Build a model of which only the heads train, before the first step. Raises Stopped."""
    run, backbone, material = detection.run, detection.backbone, detection.material
    seed, began, pictures, family = run.request.seed, time.monotonic(), material.training, detection.family
    config = strategies.settle(
        "head", run.request.hyperparameters, family.numbers, pictures=len(pictures), blocks=family.blocks
    )
    model = family.head(material.levels, len(run.labels), seed=seed)
    views = FrozenViews(backbone, model, material.canvas, pictures, seed=seed)
    family.prepare(model, views, pictures=len(pictures), stop=run.stop)
    config = config.with_views(views.fitting(config.views))
    return Fit(config, TrainingLoop(model, config, backbone, views, seed=seed), begins, ends, began)


def prepare_base(detection: DetectionRun, head: DetectionModel, strategy: str, begins: float, ends: float) -> Fit:
    """Build a model that begins as a trained head, and whose base trains as well."""
    run, backbone, material = detection.run, detection.backbone, detection.material
    seed, began, pictures, family = run.request.seed, time.monotonic(), material.training, detection.family
    config = strategies.settle(
        strategy, run.request.hyperparameters, family.numbers, pictures=len(pictures), blocks=family.depth(head)
    )
    model = family.base(head, config)
    views = FrozenViews(backbone, model, material.canvas, pictures, seed=seed)
    config = config.with_views(views.fitting(config.views))
    budget_s = run.request.refine_budget_s if run.request.strategy == "auto" else math.inf
    return Fit(config, TrainingLoop(model, config, backbone, views, seed=seed), begins, ends, began, budget_s)


def within_budget(detection: DetectionRun, fit: Fit) -> Fit:
    """Return the fit of a head with as many steps as `auto` has time for, by what those so far took.

    A strategy that is asked for by its name takes its steps, however long they last. A later attempt that begins from
    the same checkpoint decides the same: it has the seconds from there.
    """
    request, loop = detection.run.request, fit.loop
    if request.strategy != "auto":
        return fit
    loop.config = strategies.fitting(fit.config, done=loop.done, seconds=loop.seconds, budget_s=request.refine_budget_s)
    return replace(fit, config=loop.config)


def steps(
    detection: DetectionRun, fit: Fit, until: int, checkpoints: Checkpoints | None
) -> Generator[TrainEvent, None, None]:
    """Take the steps up to `until`, from the checkpoint if there is one, and tell of each. Raises Stopped, Diverged."""
    run, loop, began = detection.run, fit.loop, time.monotonic()
    if checkpoints is not None:
        loop.resume(checkpoints)
    before = loop.done
    for step in loop.run(
        until, stop=run.stop, checkpoints=checkpoints, is_late=lambda: time.monotonic() - fit.began > fit.budget_s
    ):
        left = (time.monotonic() - began) / (step.number - before) * (fit.config.steps - step.number)
        yield _progress(fit, step, left)
    curve = [CurvePoint(step.number, step.loss) for step in loop.steps]
    run.report.keep_curve(curve)
    run.report.state(loss_curve=loss_curve.describe(curve), steps=loop.done)


def trained(detection: DetectionRun, fit: Fit, name: str, model: DetectionModel, judgement: Judgement) -> Trained:
    """Return what is published of a fit as it stands."""
    config = fit.config
    used: dict[str, Any] = {
        "n_epochs": -(-fit.loop.done // config.steps_per_epoch),
        "batch_size": config.batch_size,
        "learning_rate": config.learning_rate,
    }
    if model.trained_blocks:
        used["trainable_blocks"] = model.trained_blocks
    details = {"detection": {**model.details(), "canvas": list(detection.material.canvas.shape)}}
    return Trained(name, model.parts(), detection.judge.evaluation(judgement), used, details=details)


def note(
    detection: DetectionRun,
    fit: Fit,
    name: str,
    judgement: Judgement,
    compared: Comparison | None = None,
    **more: Any,
) -> None:
    """Add a candidate to what was tried, with how it compares with the one before it, and `more` figures."""
    found = scores.score(judgement.tally, seed=detection.run.request.seed)
    figures = {**more, "score": found.value, "score_low": found.low, "score_high": found.high}
    if compared is not None:
        figures |= {"gain": compared.gain, "probability": compared.probability}
    detection.run.report.add_tried(name, **figures, steps=fit.loop.done, seconds=time.monotonic() - fit.began)


def checkpoints_of(detection: DetectionRun, config: TrainingConfig, name: str) -> Checkpoints | None:
    """Return the checkpoints of a fit; None where the request has no folder for them."""
    run, request = detection.run, detection.run.request
    if request.checkpoint_dir is None:
        return None
    fingerprint = {
        "name": name,
        "config": config,
        "seed": request.seed,
        "base": run.backbone.revision,
        "inputs": run.training.digest,
        "rows": run.training.row_keys_N.tolist(),
        "canvas": detection.material.canvas,
        "levels": detection.material.levels,
    }
    return Checkpoints(request.checkpoint_dir / name, fingerprint, every_s=CHECKPOINT_S)


def _progress(fit: Fit, step: Step, left: float) -> Progress:
    message = f"Step {step.number}/{fit.config.steps}: training loss={step.loss:.4f}"
    metrics = {
        "step": float(step.number),
        "train_loss": step.loss,
        "score_loss": step.score_loss,
        "box_loss": step.box_loss,
        "learning_rate": step.learning_rate,
    }
    step_name = "fitting" if fit.config.strategy == "head" else "refining"
    return Progress(step_name, fit.percent, message, left, metrics)
