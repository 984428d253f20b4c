"""Trials: train on a part of the rows, answer the rest, compare with the head that was fitted on that same part.

Parts are tried one after the other, and only as many as it takes to know: a clear gain or a clear failure ends it.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.learning.contract.events import TrainEvent
from models.learning.data.ragged import Ragged, flat, join
from models.learning.evaluation import calibration, scores
from models.learning.evaluation.assessment import Assessment, HeldOut, assess
from models.learning.evaluation.scores import Comparison
from models.learning.finetuning import training_loop
from models.learning.finetuning.fit import fit
from models.learning.finetuning.network import blend
from models.learning.finetuning.splits import HeadBaseline, Part, open_parts, stand_of
from models.learning.heads.first_version import FirstVersion
from models.learning.heads.linear import Floats
from models.learning.heads.stacking import Stack
from models.learning.run import Run
from models.learning.search.budget import Budget
from models.learning.search.candidates import HANDFUL, Candidate
from models.learning.search.policy import TrialPlan
from models.learning.tasks.task import Targets

# Half-way between the fitted head on the frozen base and the refined model, weight by weight (arXiv:2109.01903).
_BLENDS = (1.0, 0.5)
# Probability of being better at which no further part is tried.
_CLEAR_GAIN, _CLEAR_FAILURE = 0.98, 0.1
_CLEAR_LOSS = 1.645  # standard errors: one chance in twenty


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
    loss_noise: float  # standard error of the difference of the losses, row by row
    stack: Stack | None  # what the refined model is added to; None as in the first version

    @property
    def improves(self) -> bool:
        """More right answers, and not by luck: the loss, which sees every row's margin, agrees unless it is clear.

        A handful of rows has too few answers to count. There a loss that is clearly less says more than they do, unless
        they clearly say the contrary.
        """
        found = self.comparison
        relieved = self.old_loss - self.new_loss
        if len(self.held.targets) <= HANDFUL and relieved > _CLEAR_LOSS * self.loss_noise:
            return found.probability > _CLEAR_FAILURE
        return found.gain > 0 and (found.probability >= 0.9 or relieved > 0)

    @property
    def relief(self) -> float:
        """Share of the head's errors that are gone."""
        return self.comparison.gain / max(1.0 - self.old.score.value, 1e-9)


def hold(
    run: Run, first: FirstVersion, candidate: Candidate, plan: TrialPlan, clock: Budget
) -> Generator[TrainEvent, None, Trial]:
    """Try part after part until the answer is clear; returns the refined model's best moment. Raises OverBudget."""
    seen = HeldOutResults(run, first.stack)
    parts = open_parts(run, plan)
    for number, part in enumerate(parts, start=1):
        label = f"{candidate.name}, trial {number} of at most {len(parts)}"
        yield from attempt(run, first, candidate, part, stand_of(run, first, part), seen, clock, label)
        trial = seen.best_moment()
        if number < plan.least or number == len(parts):
            continue
        clear = not _CLEAR_FAILURE < trial.comparison.probability < _CLEAR_GAIN
        if clear or not clock.affords(len(part.train) * candidate.schedule.epochs * candidate.weight):
            break
    return trial


def attempt(  # noqa: PLR0917
    run: Run,
    first: FirstVersion,
    candidate: Candidate,
    part: Part,
    stand: HeadBaseline,
    seen: HeldOutResults,
    clock: Budget,
    label: str,
) -> Generator[TrainEvent, None, None]:
    """One fit on a part of the rows; what it answers of the rest goes into `seen`. Raises OverBudget, Diverged."""
    seen.add_part(part.held_targets, stand.logits_NK, stand.lexical_NK)
    fitted = yield from fit(
        run,
        first,
        candidate,
        stand.head,
        part.train,
        part.material(run, first),
        clock,
        label,
        name=part.name,
        heard=lambda epoch: seen.add(epoch.number, 1.0, epoch.held_logits_NK, epoch.loss),
    )
    held_tokens = fitted.material.held_tokens
    for share in _BLENDS[1:]:
        blend(fitted.network, fitted.start, share)
        answers_NK = training_loop.predict(fitted.network, held_tokens, run.backbone, stop=run.stop)
        seen.add(fitted.epochs, share, answers_NK)


class HeldOutResults:
    """The answers so far: by moment (epoch and blend), part after part."""

    def __init__(self, run: Run, stack: Stack | None) -> None:
        self._run = run
        self._stack = stack
        self._lexical: list[Floats] = []
        self._moments: dict[tuple[int, float], list[Floats]] = {}
        self._head: list[Floats] = []
        self._targets: list[Targets | Ragged] = []
        self._losses: dict[int, list[float]] = {}

    def add_part(self, targets: Targets | Ragged, head_logits_NK: Floats, lexical_NK: Floats | None) -> None:
        """A part begins: what the first version's two halves say of it."""
        self._targets.append(targets)
        self._head.append(head_logits_NK)
        if lexical_NK is not None:
            self._lexical.append(lexical_NK)

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
        measured: list[tuple[Assessment, NDArray[np.float64], int, float, Stack | None]] = []
        curve = []
        for (epoch, share), parts in self._moments.items():
            assessment, losses_U, stack = self._best_mix(np.concatenate(parts), held)
            measured.append((assessment, losses_U, epoch, share, stack))
            curve.append(
                {
                    "epoch": epoch,
                    "blend": share,
                    "score": assessment.score.value,
                    "log_loss": float(losses_U.mean()),
                    "training_loss": float(np.mean(self._losses[epoch])),
                }
            )
        top = max(entry[0].score.value for entry in measured)
        noise = (max(top * (1 - top), 0.01) / len(targets)) ** 0.5
        good = [entry for entry in measured if entry[0].score.value >= top - noise]
        new, new_losses_U, epoch, share, stack = min(good, key=lambda entry: float(entry[1].mean()))
        head_logits_NK = self._mix(self._stack, np.concatenate(self._head))
        old = assess(head_logits_NK, held, run.task, seed=seed)
        old_losses_U = _log_losses(run, head_logits_NK, held, old)
        return Trial(
            held=held,
            epochs=epoch,
            blend=share,
            curve=curve,
            new=new,
            old=old,
            comparison=scores.compare(new.tally, old.tally, seed=seed),
            new_loss=float(new_losses_U.mean()),
            old_loss=float(old_losses_U.mean()),
            loss_noise=float((new_losses_U - old_losses_U).std() / len(new_losses_U) ** 0.5),
            stack=stack,
        )

    def _mix(self, stack: Stack | None, logits_NK: Floats) -> Floats:
        if stack is None or stack.part is None:
            return logits_NK
        return stack.mix(logits_NK, np.concatenate(self._lexical))

    def _best_mix(self, logits_NK: Floats, held: HeldOut) -> tuple[Assessment, NDArray[np.float64], Stack | None]:
        """A moment's answers with as much of the lexical part as suits them best."""
        run = self._run
        variants: list[Stack | None] = [self._stack]
        if self._stack is not None and self._stack.part is not None:
            variants = [*self._stack.variants(logits_NK, flat(held.targets), run.task.link)]
        measured = []
        for stack in variants:
            mixed_NK = self._mix(stack, logits_NK)
            assessment = assess(mixed_NK, held, run.task, seed=run.request.seed)
            measured.append((assessment, _log_losses(run, mixed_NK, held, assessment), stack))
        return min(measured, key=lambda entry: float(entry[1].mean()))


def _log_losses(run: Run, logits_NK: Floats, held: HeldOut, assessment: Assessment) -> NDArray[np.float64]:
    losses_U = calibration.losses(logits_NK, held.targets, run.task.link, assessment.temperature)
    return losses_U.double().numpy()
