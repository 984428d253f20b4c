"""Held-out answers of a refined model by moment (epoch and blend), and the best moment beside the head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.learning.data.groups import Groups
from models.learning.data.ragged import Ragged, flat, join
from models.learning.evaluation import answer_count, calibration, scores
from models.learning.evaluation.assessment import Assessment, HeldOut, assess
from models.learning.evaluation.scores import Comparison
from models.learning.heads.linear import Floats
from models.learning.heads.stacking import Stack
from models.learning.search import trial_plans
from models.learning.search.policy import TrialFigures
from models.learning.tasks.task import EncoderTask, Targets


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
    figures: TrialFigures
    stack: Stack | None  # how the n-gram part is added to the refined model; None where the first version has none

    @property
    def error_reduction(self) -> float:
        """Share of the head's errors that are gone."""
        return self.comparison.gain / max(1.0 - self.old.score.value, 1e-9)


@dataclass(frozen=True, slots=True)
class Judged:
    """A model's answers to held-out rows, and what each of them costs."""

    assessment: Assessment
    losses_U: NDArray[np.float64]

    @property
    def loss(self) -> float:
        """The mean of the losses."""
        return float(self.losses_U.mean())


@dataclass(frozen=True, slots=True)
class _Moment(Judged):
    epoch: int
    blend: float
    stack: Stack | None


def judge(logits_NK: Floats, assessment: Assessment, held: HeldOut, task: EncoderTask) -> Judged:
    """Return the answers whose assessment this is, with their losses."""
    losses_U = calibration.losses(logits_NK, held.targets, task.link, assessment.temperature)
    return Judged(assessment, losses_U.double().numpy())


def compare(new: Judged, old: Judged, held: HeldOut, *, seed: int) -> tuple[Comparison, TrialFigures]:
    """Return two models' comparison on the same rows, and the numbers that decide between them."""
    one, other = new.assessment, old.assessment
    comparison = scores.compare(one.tally.by_group(held.group_N), other.tally.by_group(held.group_N), seed=seed)
    figures = TrialFigures(
        answers=answer_count.count(other.tally, other.score),
        gain=comparison.gain,
        probability=comparison.probability,
        new_loss=new.loss,
        old_loss=old.loss,
        loss_noise=float((new.losses_U - old.losses_U).std() / len(new.losses_U) ** 0.5),
    )
    return comparison, figures


class HeldOutResults:
    """Held-out answers so far: by moment (epoch and blend), split after split."""

    def __init__(
        self,
        task: EncoderTask,
        stack: Stack | None,
        *,
        seed: int,
        validated: bool = False,
        groups: Groups | None = None,
        to_the_end: bool = False,
    ) -> None:
        """Begin without answers. `to_the_end`: only what the last epoch left is chosen: the customer named it, say."""
        self._to_the_end = to_the_end
        self._groups = groups
        self._task = task
        self._stack = stack
        self._seed = seed
        self._validated = validated
        self._ngram: list[Floats] = []
        self._answers: dict[tuple[int, float], list[Floats]] = {}
        self._head: list[Floats] = []
        self._targets: list[Targets | Ragged] = []
        self._rows: list[NDArray[np.int64]] = []
        self._learned_from: list[int] = []
        self._training_losses: dict[int, list[float]] = {}

    @property
    def empty(self) -> bool:
        """Whether no split has answered yet."""
        return not self._targets

    def begin_split(
        self,
        targets: Targets | Ragged,
        rows_N: NDArray[np.int64],
        head_logits_NK: Floats,
        ngram_logits_NK: Floats | None,
        *,
        learned_from: int = 0,
    ) -> None:
        """Add the held-out rows of another split, with the logits of the first version's head and n-gram part.

        `learned_from`: the rows that were left for learning.
        """
        self._targets.append(targets)
        self._learned_from.append(learned_from)
        self._rows.append(rows_N)
        self._head.append(head_logits_NK)
        if ngram_logits_NK is not None:
            self._ngram.append(ngram_logits_NK)

    def add(self, epoch: int, blend: float, logits_NK: Floats, training_loss: float | None = None) -> None:
        """Add answers for the split under way."""
        self._answers.setdefault((epoch, blend), []).append(logits_NK)
        if training_loss is not None:
            self._training_losses.setdefault(epoch, []).append(training_loss)

    def best_moment(self) -> Trial:
        """Return the moment that `trial_plans.choose_moment` picks, compared with the head on the same rows."""
        targets = join(self._targets)
        fold_N = np.concatenate([np.full(len(split), fold) for fold, split in enumerate(self._targets)])
        folds_N = fold_N if len(self._targets) > 1 else None
        rows_N = np.concatenate(self._rows)
        group_N = None if self._groups is None else self._groups.take(rows_N).numbers
        learned_from = 0 if self._validated else round(float(np.mean(self._learned_from)))
        held = HeldOut(targets, folds_N, self._validated, rows_N, group_N, learned_from)
        moments = [self._assess(*moment, np.concatenate(splits), held) for moment, splits in self._answers.items()]
        curve = [
            {
                "epoch": moment.epoch,
                "blend": moment.blend,
                "score": moment.assessment.score.value,
                "log_loss": moment.loss,
                "training_loss": float(np.mean(self._training_losses[moment.epoch])),
            }
            for moment in moments
        ]
        last = max(moment.epoch for moment in moments)
        eligible = [moment for moment in moments if moment.epoch == last or not self._to_the_end]
        top = max((moment.assessment for moment in eligible), key=lambda assessment: assessment.score.value)
        best = eligible[
            trial_plans.choose_moment(
                [moment.assessment.score.value for moment in eligible],
                [moment.loss for moment in eligible],
                answers=answer_count.count(top.tally, top.score),
            )
        ]
        head_logits_NK = self._mix(self._stack, np.concatenate(self._head))
        old = self._judge(head_logits_NK, held)
        comparison, figures = compare(best, old, held, seed=self._seed)
        return Trial(
            held=held,
            epochs=best.epoch,
            blend=best.blend,
            curve=curve,
            new=best.assessment,
            old=old.assessment,
            comparison=comparison,
            figures=figures,
            stack=best.stack,
        )

    def _mix(self, stack: Stack | None, logits_NK: Floats) -> Floats:
        if stack is None or stack.part is None:
            return logits_NK
        return stack.mix(logits_NK, np.concatenate(self._ngram))

    def _assess(self, epoch: int, blend: float, logits_NK: Floats, held: HeldOut) -> _Moment:
        """Measure a moment's answers, with as much of the n-gram part as suits them best."""
        variants: list[Stack | None] = [self._stack]
        if self._stack is not None and self._stack.part is not None:
            variants = [*self._stack.variants(logits_NK, flat(held.targets), self._task.link)]
        measured = []
        for stack in variants:
            judged = self._judge(self._mix(stack, logits_NK), held)
            measured.append(_Moment(judged.assessment, judged.losses_U, epoch, blend, stack))
        return min(measured, key=lambda moment: moment.loss)

    def _judge(self, logits_NK: Floats, held: HeldOut) -> Judged:
        return judge(logits_NK, assess(logits_NK, held, self._task, seed=self._seed), held, self._task)
