"""Trials: train on a part of the rows, answer the rest, compare with the head that was fitted on that same part.

Parts are tried one after the other, and only as many as it takes to know: a clear gain or a clear failure ends it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import torch

from models.backbones.backbone import Row
from models.learning import evaluation, features, first_version, refinement, selection
from models.learning.assessment import Assessment, HeldOut, assess
from models.learning.bench import Table
from models.learning.checkpoints import Checkpoints
from models.learning.evaluation import Comparison
from models.learning.events import Progress, TrainEvent
from models.learning.first_version import FirstVersion
from models.learning.folds import Rows, splits, stratified_folds
from models.learning.heads import Floats, Head
from models.learning.network import Network, blend, build, trained_values
from models.learning.plans import TrialPlan
from models.learning.ragged import Ragged, flat, join, units
from models.learning.refinement import Epoch, Material
from models.learning.run import Run
from models.learning.strategies import Schedule
from models.learning.tasks.task import Targets

BEGINS, ENDS = 30.0, 98.0  # percent of the run
# Half-way between the fitted head on the frozen base and the refined model, weight by weight (arXiv:2109.01903).
_BLENDS = (1.0, 0.5)
# Probability of being better at which no further part is tried.
_CLEAR_GAIN, _CLEAR_FAILURE = 0.98, 0.1


class OverBudget(Exception):
    """What is left to do would take longer than `auto` may spend."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Held-out answers of the refined model at its best moment, and of the head, on the same rows."""

    held: HeldOut
    epochs: int
    blend: float
    curve: list[dict[str, float]]
    new: Assessment
    old: Assessment
    comparison: Comparison
    new_loss: float
    old_loss: float

    @property
    def improves(self) -> bool:
        """More right answers, and not by luck: the loss, which sees every row's margin, agrees unless it is clear."""
        if self.comparison.gain <= 0:
            return False
        return self.comparison.probability >= 0.9 or self.new_loss < self.old_loss


@dataclass(slots=True)
class Clock:
    """How much of the refinement is done, in rows times epochs, and how long the rest will take."""

    run: Run
    total: float
    limit_s: float | None
    began: float
    done: float = 0.0

    def tell(self, within: float, message: str, **metrics: float) -> Progress:
        """A Progress event; `within` is what the fit under way adds to `done`. Raises OverBudget."""
        done = max(self.done + within, 1e-9)
        spent = time.monotonic() - self.began
        remaining = spent * max(self.total - done, 0.0) / done
        # Early on a projection is mostly start-up cost.
        if self.limit_s is not None and spent > 0.05 * self.limit_s and spent + remaining > self.limit_s:
            raise OverBudget
        share = min(done / self.total, 1.0)
        return Progress("refining", BEGINS + (ENDS - BEGINS) * share, message, remaining, metrics)

    def affords(self, more: float) -> bool:
        """Whether that much work on top would still end within the budget; if so it is added to the total."""
        spent = time.monotonic() - self.began
        projected = spent * (self.total + more) / max(self.done, 1e-9)
        if self.limit_s is not None and projected > self.limit_s:
            return False
        self.total += more
        return True


def hold(
    run: Run, first: FirstVersion, schedule: Schedule, plan: TrialPlan, clock: Clock
) -> Generator[TrainEvent, None, Trial]:
    """Try part after part until the answer is clear; returns the refined model's best moment. Raises OverBudget."""
    seen = _Seen(run)
    parts = _parts(run, plan)
    for number, part in enumerate(parts, start=1):
        label = f"trial {number} of at most {len(parts)}"
        yield from _try_part(run, first, schedule, part, seen, clock, label)
        trial = seen.best_moment()
        if number < plan.least or number == len(parts):
            continue
        clear = not _CLEAR_FAILURE < trial.comparison.probability < _CLEAR_GAIN
        if clear or not clock.affords(len(part.train) * schedule.epochs):
            break
    return trial


@dataclass(frozen=True, slots=True)
class _Part:
    number: int
    train: Rows
    held_targets: Targets | Ragged
    held_tokens: list[Row]
    held_features: dict[str, Floats]


class _Seen:
    """The answers so far: by moment (epoch and blend), part after part."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._moments: dict[tuple[int, float], list[Floats]] = {}
        self._head: list[Floats] = []
        self._targets: list[Targets | Ragged] = []
        self._losses: dict[int, list[float]] = {}

    def add_part(self, targets: Targets | Ragged, head_logits_NK: Floats) -> None:
        """A part begins."""
        self._targets.append(targets)
        self._head.append(head_logits_NK)

    def add(self, epoch: int, share: float, logits_NK: Floats, loss: float | None = None) -> None:
        """Answers of the part under way."""
        self._moments.setdefault((epoch, share), []).append(logits_NK)
        if loss is not None:
            self._losses.setdefault(epoch, []).append(loss)

    def best_moment(self) -> Trial:
        """The least loss among the moments whose score is within one standard error of the best (Breiman et al. 1984).

        On a few hundred rows the best score alone is a draw of luck, and its epoch too early in the schedule.
        """
        run, seed = self._run, self._run.request.seed
        targets = join(self._targets)
        fold_N = np.concatenate([np.full(len(part), fold) for fold, part in enumerate(self._targets)])
        validated = run.validation is not None
        held = HeldOut(targets, fold_N if len(self._targets) > 1 else None, validated)
        measured: list[tuple[Assessment, float, int, float]] = []
        curve = []
        for (epoch, share), parts in self._moments.items():
            logits_NK = np.concatenate(parts)
            assessment = assess(logits_NK, held, run.task, seed=seed)
            loss = _log_loss(run, logits_NK, held, assessment)
            measured.append((assessment, loss, epoch, share))
            curve.append(
                {
                    "epoch": epoch,
                    "blend": share,
                    "score": assessment.score.value,
                    "log_loss": loss,
                    "training_loss": float(np.mean(self._losses[epoch])),
                }
            )
        top = max(entry[0].score.value for entry in measured)
        noise = (max(top * (1 - top), 0.01) / len(targets)) ** 0.5
        good = [entry for entry in measured if entry[0].score.value >= top - noise]
        new, new_loss, epoch, share = min(good, key=lambda entry: entry[1])
        head_logits_NK = np.concatenate(self._head)
        old = assess(head_logits_NK, held, run.task, seed=seed)
        return Trial(
            held=held,
            epochs=epoch,
            blend=share,
            curve=curve,
            new=new,
            old=old,
            comparison=evaluation.compare(new.tally, old.tally, seed=seed),
            new_loss=new_loss,
            old_loss=_log_loss(run, head_logits_NK, held, old),
        )


def _try_part(  # noqa: PLR0917
    run: Run, first: FirstVersion, schedule: Schedule, part: _Part, seen: _Seen, clock: Clock, label: str
) -> Generator[TrainEvent, None, None]:
    head = _fold_head(run, first, part.train)
    seen.add_part(part.held_targets, head.logits(features.derive(part.held_features, first.choice.names)))
    network = network_of(run, first, schedule, head, part.train)
    start = trained_values(network)
    material = material_of(run, first, part.train, part.held_tokens)
    rows = len(material.tokens)
    steps = refinement.fit(
        network,
        schedule,
        material,
        run.task.link,
        run.backbone,
        seed=run.request.seed,
        checkpoints=checkpoints_of(run, schedule, f"trial-{part.number}"),
        stop=run.stop,
    )
    epoch = 0
    for step in steps:
        if isinstance(step, Epoch):
            epoch = step.number
            seen.add(epoch, 1.0, step.held_logits_NK, step.loss)
            yield clock.tell(rows * epoch, f"{label}, epoch {epoch}", loss=step.loss, epoch=float(epoch))
        else:
            yield clock.tell(rows * (epoch + step), label)
    run.tokens_used += epoch * sum(len(row) for row in material.tokens)
    clock.done += rows * schedule.epochs
    for share in _BLENDS[1:]:
        blend(network, start, share)
        seen.add(epoch, share, refinement.predict(network, part.held_tokens, run.backbone, stop=run.stop))


def _parts(run: Run, plan: TrialPlan) -> list[_Part]:
    corpus = run.training.corpus
    if run.validation is not None:
        held_rows = run.validation
        everything = np.arange(len(corpus))
        return [_Part(0, everything, held_rows.corpus.targets, held_rows.tokens, held_rows.features)]
    fold_N = stratified_folds(run.task.strata(corpus.targets), plan.folds, seed=run.request.seed + 1)
    return [
        _Part(
            number,
            train,
            corpus.targets[held],
            [run.training.tokens[row] for row in held],
            {name: values[units(corpus.targets, held)] for name, values in run.training.features.items()},
        )
        for number, (train, held) in enumerate(splits(fold_N)[: plan.used])
    ]


def _fold_head(run: Run, first: FirstVersion, train: Rows) -> Head:
    table = Table(run.training.features, run.training.corpus.targets).take(train)
    return selection.fit_final(table, first.label_names, first.choice, first_version.setting(run))


def network_of(run: Run, first: FirstVersion, schedule: Schedule, head: Head, train: Rows) -> Network:
    """A network that starts as the base with `head`, standardised by the training rows."""
    where = units(run.training.corpus.targets, train)
    plain = {name: values[where] for name, values in run.training.features.items()}
    features_NF = features.derive(plain, first.choice.names)
    return build(run.backbone, schedule, first.choice.names, head, features_NF, seed=run.request.seed)


def material_of(run: Run, first: FirstVersion, train: Rows, held_tokens: list[Row]) -> Material:
    """The rows to train on, the label names among them if they were chosen."""
    tokens = [run.training.tokens[row] for row in train]
    targets = run.training.corpus.targets[train]
    if run.surplus is not None:
        tokens += run.surplus.tokens
        targets = join([targets, run.surplus.corpus.targets])
    if first.choice.label_names and first.label_names is not None:
        tokens += first_version.label_name_tokens(run)
        targets = join([targets, first.label_names.targets])
    return Material(tokens, targets, held_tokens)


def checkpoints_of(run: Run, schedule: Schedule, name: str) -> Checkpoints | None:
    """Where one fit of this very run keeps its state, None if the request says nowhere."""
    folder = run.request.checkpoint_dir
    if folder is None:
        return None
    what = {
        "rows": run.training.corpus.digest,
        "targets": hashlib.sha256(flat(run.training.corpus.targets).tobytes()).hexdigest(),
        "base": run.backbone.revision,
        "precision": str(run.backbone.dtype),
        "schedule": repr(schedule),
        "seed": run.request.seed,
        "fit": name,
    }
    fingerprint = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    return Checkpoints(folder / f"{schedule.strategy.name}-{name}", fingerprint)


def _log_loss(run: Run, logits_NK: Floats, held: HeldOut, assessment: Assessment) -> float:
    tempered = torch.from_numpy(logits_NK) / assessment.temperature
    return float(run.task.link.losses(tempered, torch.from_numpy(flat(held.targets))).mean())
