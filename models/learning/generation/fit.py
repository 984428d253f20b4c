"""One fit of a run: the network, its rows, the loop, its events and checkpoints."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import asdict, dataclass
from typing import Any

from models.backbones.writing import DecoderBackbone
from models.learning import loss_curve
from models.learning.contract.events import CurvePoint, Progress, TrainEvent
from models.learning.generation import judging, network, scoring, strategies, training_loop
from models.learning.generation.checkpoints import Checkpoints
from models.learning.generation.material import Material
from models.learning.generation.network import WritingNetwork
from models.learning.generation.training_loop import Measure, Rows, Step
from models.learning.run import Run

_CHECKPOINT_S = 2.0  # and seldom enough that writing takes little of the time
_STATES = 4  # of each value in a checkpoint: its own, AdamW's two, the best
_BEGINS, _ENDS = 12.0, 90.0  # percent of the run


@dataclass(frozen=True, slots=True)
class Fitted:
    """A trained network and what it took."""

    name: str
    network: WritingNetwork
    seconds: float


def train(
    run: Run, backbone: DecoderBackbone, material: Material, strategy: str
) -> Generator[TrainEvent, None, tuple[Fitted, dict[str, Any]]]:
    """Train by one strategy; yield an event per step, return the network and the hyperparameters that it took."""
    request, began = run.request, time.monotonic()
    pairs = material.pairs and request.hyperparameters.method != "supervised"
    config = strategies.settle(
        strategy, request.hyperparameters, rows=len(material.training), blocks=backbone.blocks, pairs=pairs
    )
    if config.rank:
        fitted = network.low_rank(backbone, config.rank, seed=request.seed)
    else:
        fitted = network.own_blocks(backbone, config.trainable_blocks)
    rows: Rows = material.training.tokens
    base_margins = None
    if pairs:
        base = network.frozen(backbone)
        rows = judging.pairs(backbone, material.training, material.plain, base, stop=run.stop)
        base_margins = judging.judge(run, backbone, material, base, material.plain).margins

    def measure() -> Measure:
        if pairs:
            found = judging.judge(run, backbone, material, fitted, material.plain)
            loss = judging.preference_loss(found, base_margins, config.beta)
            return Measure(loss, judging.reward_accuracy(found, base_margins))
        held = scoring.score(fitted, material.held.tokens, threads=backbone.threads, stop=run.stop)
        return Measure(held.loss, held.accuracy)

    def is_late() -> bool:
        return request.strategy == "auto" and time.monotonic() - began > request.refine_budget_s

    curve: list[CurvePoint] = []
    tokens = replayed = 0
    for step in training_loop.train(
        fitted,
        config,
        rows,
        measure,
        seed=request.seed,
        threads=backbone.threads,
        stop=run.stop,
        checkpoints=_checkpoints(run, backbone, config, fitted),
        deadline=is_late,
    ):
        tokens += step.tokens
        curve.append(_point(step))
        if not step.replayed:  # the attempt that took it has told it
            yield _progress(step, began, step.number - replayed)
        else:
            replayed = step.number
    seconds = time.monotonic() - began
    run.report.add_tokens(tokens)
    run.report.add_seconds("training", seconds)
    run.report.keep_curve(curve)
    run.report.state(
        loss_curve=loss_curve.describe(curve), steps=len(curve), tokens_per_second=tokens / max(seconds, 1e-9)
    )
    used = {
        "n_epochs": config.epochs,
        "batch_size": config.batch_size,
        "learning_rate": config.learning_rate,
        **({"lora_rank": config.rank} if config.rank else {"trainable_blocks": config.trainable_blocks}),
        **({"beta": config.beta} if config.beta else {}),
        "method": "dpo" if pairs else "supervised",
    }
    return Fitted("dpo" if pairs and strategy == "lora" else strategy, fitted, seconds), used


def _progress(step: Step, began: float, done: int) -> Progress:
    share = step.number / step.total
    left = (time.monotonic() - began) / max(done, 1) * (step.total - step.number)
    metrics = {"step": float(step.number), "train_loss": step.loss, "learning_rate": step.learning_rate}
    if step.accuracy is not None:
        metrics["train_accuracy"] = step.accuracy
    message = f"Step {step.number}/{step.total}: training loss={step.loss:.4f}"
    if step.held_loss is not None:
        metrics["validation_loss"] = step.held_loss
        metrics["validation_accuracy"] = step.held_accuracy or 0.0
        message += f", validation loss={step.held_loss:.4f}"
    return Progress("refining", _BEGINS + (_ENDS - _BEGINS) * share, message, left, metrics)


def _point(step: Step) -> CurvePoint:
    return CurvePoint(step.number, step.loss, step.accuracy, step.held_loss, step.held_accuracy)


def _checkpoints(
    run: Run, backbone: DecoderBackbone, config: strategies.TrainingConfig, fitted: WritingNetwork
) -> Checkpoints | None:
    folder = run.request.checkpoint_dir
    if folder is None:
        return None
    fingerprint = {
        "base": backbone.revision,
        "precision": str(backbone.dtype),
        "config": asdict(config),
        "data": run.request.training.sha256 or run.training.digest,
        "validation": "" if run.validation is None else run.validation.digest,
        "seed": run.request.seed,
    }
    size = _STATES * sum(value.nbytes for value in fitted.values.values())
    return Checkpoints(folder / f"generation-{config.strategy}", fingerprint, every_s=_CHECKPOINT_S, bytes_=size)
