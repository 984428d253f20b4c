"""Whether to refine the first version, and how: trials on held-out rows first, a model on all rows if they say so.

A trial trains on a part of the rows from a head that was fitted on that part alone, and answers the rest. Head and
refined model are compared on exactly those answers. Only then is a model trained on all rows, for as many epochs as
served the trials best: early stopping costs no rows.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from models.backbones.backbone import Row
from models.learning import evaluation, features, first_version, refinement, selection
from models.learning.assessment import Assessment, HeldOut, assess
from models.learning.checkpoints import Checkpoints
from models.learning.evaluation import Comparison
from models.learning.events import Progress, TrainEvent
from models.learning.first_version import FirstVersion
from models.learning.folds import Rows, splits, stratified_folds
from models.learning.heads import Floats, Head
from models.learning.network import Network, blend, build, own_tensors, trained_values
from models.learning.plans import TrialPlan, plan_trials, worth_trying
from models.learning.refinement import Epoch, Material
from models.learning.run import Run, Trained, write_candidate
from models.learning.selection import Table
from models.learning.strategies import STRATEGIES, Schedule, settle

_BEGINS, _ENDS = 30.0, 98.0  # percent of the run
# Half-way between the fitted head on the frozen base and the refined model, weight by weight (arXiv:2109.01903).
_BLENDS = (1.0, 0.5)


class _OverBudget(Exception):
    """What is left to do would take longer than `auto` may spend."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Held-out answers of the refined model at its best moment, and of the head, on the same rows."""

    held: HeldOut
    logits_NK: Floats
    head_logits_NK: Floats
    epochs: int
    blend: float
    curve: list[dict[str, float]]


@dataclass(slots=True)
class _Clock:
    """How much of the refinement is done, in rows times epochs, and how long the rest will take."""

    run: Run
    total: float
    limit_s: float | None
    began: float
    done: float = 0.0

    def tell(self, within: float, message: str, **metrics: float) -> Progress:
        """A Progress event; `within` is what the fit under way adds to `done`. Raises _OverBudget."""
        done = max(self.done + within, 1e-9)
        spent = time.monotonic() - self.began
        remaining = spent * max(self.total - done, 0.0) / done
        # Early on a projection is mostly start-up cost.
        if self.limit_s is not None and spent > 0.02 * self.limit_s and spent + remaining > self.limit_s:
            raise _OverBudget
        share = min(done / self.total, 1.0)
        return Progress("refining", _BEGINS + (_ENDS - _BEGINS) * share, message, remaining, metrics)


def refine(run: Run, first: FirstVersion) -> Iterator[TrainEvent]:
    """Candidates beyond the first version; in `auto` only those that are better than it."""
    asked = run.request.strategy
    if asked in ("head", "zero-shot"):
        return
    if asked == "auto":
        verdict = worth_trying(first, rows=len(run.training.corpus))
        run.report["refinement"] = verdict.as_dict()
        if verdict.strategy is None:
            return
        strategy = STRATEGIES[verdict.strategy]
    else:
        strategy = STRATEGIES[asked]
    schedule = settle(strategy, run.request.hyperparameters, rows=len(run.training.corpus), blocks=run.backbone.blocks)
    plan = plan_trials(len(run.training.corpus), validated=run.validation is not None)
    limit_s = run.request.refine_budget_s if asked == "auto" else None
    clock = _Clock(run, plan.work(len(run.training.corpus)) * schedule.epochs, limit_s, time.monotonic())
    try:
        yield from _race(run, first, schedule, plan, clock)
    except _OverBudget:
        run.tried.append(
            {
                "name": strategy.name,
                "abandoned": "it would have taken longer than the budget for refinement",
                "seconds": round(time.monotonic() - clock.began, 3),
            }
        )


def _race(run: Run, first: FirstVersion, schedule: Schedule, plan: TrialPlan, clock: _Clock) -> Iterator[TrainEvent]:
    trial = yield from _try(run, first, schedule, plan, clock)
    seed = run.request.seed
    new = assess(trial.logits_NK, trial.held, run.task, seed=seed)
    old = assess(trial.head_logits_NK, trial.held, run.task, seed=seed)
    comparison = evaluation.compare(new.tally, old.tally, seed=seed)
    improves = _is_better(comparison, new, old, trial, run)
    run.tried.append(
        _tried(schedule, trial, new=new, old=old, comparison=comparison, seconds=time.monotonic() - clock.began)
    )
    if not improves and run.request.strategy == "auto":
        run.seconds["refining"] = time.monotonic() - clock.began
        return
    network = yield from _train_on_all(run, first, schedule, trial, clock)
    yield Progress("evaluating", _ENDS, metrics={"score": new.score.value})
    trained = _trained(run, first, schedule, trial=trial, network=network, assessment=new)
    run.seconds["refining"] = time.monotonic() - clock.began
    run.tried[-1]["seconds"] = round(run.seconds["refining"], 3)
    candidate = write_candidate(run, trained, trial.held, improves=improves)
    yield candidate


def _try(
    run: Run, first: FirstVersion, schedule: Schedule, plan: TrialPlan, clock: _Clock
) -> Generator[TrainEvent, None, Trial]:
    """Train on parts, answer the rest, find the best moment."""
    corpus = run.training.corpus
    moments: dict[tuple[int, float], list[Floats]] = {}
    head_logits: list[Floats] = []
    losses: dict[int, list[float]] = {}
    parts = _parts(run, plan)
    for number, (train, held_tokens, held_features) in enumerate(parts):
        head = _fold_head(run, first, train)
        head_logits.append(head.logits(features.derive(held_features, first.choice.names)))
        network = _network(run, first, schedule, head, train)
        start = trained_values(network)
        material = _material(run, first, train, held_tokens)
        rows = len(material.tokens)
        steps = refinement.fit(
            network,
            schedule,
            material,
            run.task.link,
            run.backbone,
            seed=run.request.seed,
            checkpoints=_checkpoints(run, schedule, f"trial-{number}"),
            stop=run.stop,
        )
        label = f"trial {number + 1} of {len(parts)}"
        epoch = 0
        for step in steps:
            if isinstance(step, Epoch):
                epoch = step.number
                moments.setdefault((epoch, 1.0), []).append(step.held_logits_NK)
                losses.setdefault(epoch, []).append(step.loss)
                yield clock.tell(rows * epoch, f"{label}, epoch {epoch}", loss=step.loss, epoch=float(epoch))
            else:
                yield clock.tell(rows * (epoch + step), label)
        run.tokens_used += epoch * sum(len(row) for row in material.tokens)
        clock.done += rows * schedule.epochs
        for share in _BLENDS[1:]:
            blend(network, start, share)
            answers = refinement.predict(network, held_tokens, run.backbone, stop=run.stop)
            moments.setdefault((epoch, share), []).append(answers)
    if run.validation is not None:
        held = HeldOut(run.validation.corpus.targets, None)
    else:
        rows_held = [held for _, held in _splits(run, plan)]
        fold_N = np.concatenate([np.full(len(held), fold) for fold, held in enumerate(rows_held)])
        held = HeldOut(corpus.targets[np.concatenate(rows_held)], fold_N if len(rows_held) > 1 else None)
    return _best_moment(run, held, moments, np.concatenate(head_logits), losses)


def _best_moment(
    run: Run,
    held: HeldOut,
    moments: dict[tuple[int, float], list[Floats]],
    head_logits_NK: Floats,
    losses: dict[int, list[float]],
) -> Trial:
    """The moment of the best score; within a quarter of a standard error the least loss decides."""
    measured: list[tuple[float, float, int, float, Floats]] = []
    curve = []
    for (epoch, share), parts in moments.items():
        logits_NK = np.concatenate(parts)
        assessment = assess(logits_NK, held, run.task, seed=run.request.seed)
        loss = _log_loss(run, logits_NK, held, assessment)
        measured.append((assessment.score.value, loss, epoch, share, logits_NK))
        curve.append({"epoch": epoch, "blend": share, "score": assessment.score.value, "log_loss": loss})
    for point in curve:
        point["training_loss"] = float(np.mean(losses[int(point["epoch"])]))
    top = max(score for score, *_ in measured)
    noise = 0.25 * (max(top * (1 - top), 0.01) / len(held.targets)) ** 0.5
    _, _, epoch, share, logits_NK = min(
        (entry for entry in measured if entry[0] >= top - noise), key=lambda entry: entry[1]
    )
    return Trial(held, logits_NK, head_logits_NK, epoch, share, curve)


def _train_on_all(
    run: Run, first: FirstVersion, schedule: Schedule, trial: Trial, clock: _Clock
) -> Generator[TrainEvent, None, Network]:
    everything = np.arange(len(run.training.corpus))
    network = _network(run, first, schedule, first.head, everything)
    start = trained_values(network)
    material = _material(run, first, everything, [])
    steps = refinement.fit(
        network,
        schedule,
        material,
        run.task.link,
        run.backbone,
        seed=run.request.seed,
        checkpoints=_checkpoints(run, schedule, "final"),
        stop=run.stop,
        epochs=trial.epochs,
    )
    epoch = 0
    for step in steps:
        if isinstance(step, Epoch):
            epoch = step.number
            message = f"all rows, epoch {epoch} of {trial.epochs}"
            yield clock.tell(len(material.tokens) * epoch, message, loss=step.loss, epoch=float(epoch))
        else:
            yield clock.tell(len(material.tokens) * (epoch + step), "all rows")
    run.tokens_used += epoch * sum(len(row) for row in material.tokens)
    blend(network, start, trial.blend)
    return network


def _trained(
    run: Run, first: FirstVersion, schedule: Schedule, *, trial: Trial, network: Network, assessment: Assessment
) -> Trained:
    head = network.head()
    tensors = {
        "head.weight": torch.from_numpy(head.weight_KF),
        "head.bias": torch.from_numpy(head.bias_K),
        **own_tensors(network, schedule, run.backbone.dtype),
    }
    return Trained(
        name=schedule.strategy.name,
        features=first.choice.names,
        tensors=tensors,
        assessment=assessment,
        hyperparameters={
            **first.trained.hyperparameters,
            "n_epochs": trial.epochs,
            "scheduled_epochs": schedule.epochs,
            "batch_size": schedule.batch_size,
            "learning_rate": schedule.learning_rate,
            "head_learning_rate": schedule.head_rate,
            "lora_rank": schedule.low_rank or None,
            "trainable_blocks": run.backbone.blocks - network.first_block,
            "blend": trial.blend,
        },
        details={"first_own_block": network.first_block, "lora_rank": schedule.low_rank},
    )


def _is_better(comparison: Comparison, new: Assessment, old: Assessment, trial: Trial, run: Run) -> bool:
    """More right answers, and not by luck: the loss, which sees every row's margin, has to agree unless it is clear."""
    if comparison.gain <= 0:
        return False
    if comparison.probability >= 0.9:
        return True
    new_loss = _log_loss(run, trial.logits_NK, trial.held, new)
    return new_loss < _log_loss(run, trial.head_logits_NK, trial.held, old)


def _log_loss(run: Run, logits_NK: Floats, held: HeldOut, assessment: Assessment) -> float:
    tempered = torch.from_numpy(logits_NK) / assessment.temperature
    return float(run.task.link.losses(tempered, torch.from_numpy(held.targets)).mean())


def _tried(
    schedule: Schedule, trial: Trial, *, new: Assessment, old: Assessment, comparison: Comparison, seconds: float
) -> dict[str, Any]:
    return {
        "name": schedule.strategy.name,
        "score": new.score.value,
        "score_low": new.score.low,
        "score_high": new.score.high,
        "seconds": round(seconds, 3),
        "rows": len(trial.held.targets),
        "head_score_on_these_rows": old.score.value,
        "gain": comparison.gain,
        "gain_low": comparison.low,
        "gain_high": comparison.high,
        "probability_better": comparison.probability,
        "mcnemar_p": comparison.p_value,
        "epochs": trial.epochs,
        "blend": trial.blend,
        "curve": trial.curve,
    }


def _splits(run: Run, plan: TrialPlan) -> list[tuple[Rows, Rows]]:
    corpus = run.training.corpus
    fold_N = stratified_folds(run.task.strata(corpus.targets), plan.folds, seed=run.request.seed + 1)
    return splits(fold_N)[: plan.used]


def _parts(run: Run, plan: TrialPlan) -> list[tuple[Rows, list[Row], dict[str, Floats]]]:
    """(training rows, held-out tokens, held-out features) of each trial."""
    if run.validation is not None:
        return [(np.arange(len(run.training.corpus)), run.validation.tokens, run.validation.features)]
    parts = []
    for train, held in _splits(run, plan):
        held_features = {name: values[held] for name, values in run.training.features.items()}
        parts.append((train, [run.training.tokens[row] for row in held], held_features))
    return parts


def _fold_head(run: Run, first: FirstVersion, train: Rows) -> Head:
    table = Table(run.training.features, run.training.corpus.targets).take(train)
    return selection.fit_final(table, first.label_names, first.choice, first_version.setting(run))


def _network(run: Run, first: FirstVersion, schedule: Schedule, head: Head, train: Rows) -> Network:
    plain = {name: values[train] for name, values in run.training.features.items()}
    features_NF = features.derive(plain, first.choice.names)
    return build(run.backbone, schedule, first.choice.names, head, features_NF, seed=run.request.seed)


def _material(run: Run, first: FirstVersion, train: Rows, held_tokens: list[Row]) -> Material:
    tokens = [run.training.tokens[row] for row in train]
    targets = run.training.corpus.targets[train]
    if first.choice.label_names and first.label_names is not None:
        tokens += first_version.label_name_tokens(run)
        targets = np.concatenate([targets, first.label_names.targets])
    return Material(tokens, targets, held_tokens)


def _checkpoints(run: Run, schedule: Schedule, name: str) -> Checkpoints | None:
    folder = run.request.checkpoint_dir
    if folder is None:
        return None
    what = {
        "rows": run.training.corpus.digest,
        "targets": hashlib.sha256(run.training.corpus.targets.tobytes()).hexdigest(),
        "base": run.backbone.revision,
        "precision": str(run.backbone.dtype),
        "schedule": repr(schedule),
        "seed": run.request.seed,
        "fit": name,
    }
    fingerprint = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    return Checkpoints(folder / f"{schedule.strategy.name}-{name}", fingerprint)
