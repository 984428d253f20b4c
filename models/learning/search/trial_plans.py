"""Plans for trying candidates: what is held out and how often, what a race learns from, which moment is the best.

Functions of plain values, as those of `policy`; every constant with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

# Fits of all rows whose weights are averaged, up to so many rows: they differ by half a point of luck (decision 0050).
FINAL_FITS, FEW_ROWS = 3, 2_000
LEAST_TRIAL_FITS = 2  # of a trial, from which the final ones are averaged with them: see the same decision
# Held out, where earlier jobs found the same: enough to distinguish a difference of five points from none.
CONFIRMING_ANSWERS = 100


@dataclass(frozen=True, slots=True)
class TrialPlan:
    """Splits to hold out in turn: at most `used` of `folds`; from `least` on a clear answer ends the trial.

    The weights of the final fits are averaged.
    """

    folds: int
    used: int
    least: int = 1
    final_fits: int = 1  # on all rows, at most

    def work(self, rows: int) -> float:
        """Return the rows that are passed per epoch at least, the final fit on all of them included."""
        return rows * (self.least * self._trained_share + 1.0)

    def most_work(self, rows: int, *, final_fits: int = 1) -> float:
        """Return the same if no answer is clear before the last split, with so many final fits."""
        return rows * (self.used * self._trained_share + final_fits)

    def shortened(self, answers: float) -> TrialPlan:
        """Return half the splits, or one if it has enough answers: earlier outcomes count as well.

        A fit of all rows less, or what the search spares would go into those.
        """
        enough = self.folds > 1 and answers / self.folds >= CONFIRMING_ANSWERS
        used = 1 if enough else max(1, self.used // 2)
        return replace(self, used=used, least=1, final_fits=max(1, self.final_fits - 1))

    @property
    def _trained_share(self) -> float:
        return 1.0 if self.folds == 1 else (self.folds - 1) / self.folds


def plan_trials(answers: float, *, rows: int, validated: bool) -> TrialPlan:
    """Hold out each of few rows once, or the comparison drowns in noise; of many answers an eighth is plenty.

    Few rows of many answers each, as of several labels, are held out more than once: thresholds are tuned on them, and
    the fits are averaged. It does not depend on a clock: within the budget the same request gives the same model.
    """
    few = rows <= FEW_ROWS
    if validated:
        plan = TrialPlan(1, 1)
    elif answers <= 1_500:
        plan = TrialPlan(4, 4, least=2)
    elif answers <= 5_000:
        plan = TrialPlan(5, 3)
    else:
        plan = TrialPlan(8, 3 if few else 1)
    return replace(plan, least=min(plan.used, LEAST_TRIAL_FITS), final_fits=FINAL_FITS) if few else plan


# Answers of the first rung, to learn from and to compare, and its share of the epochs; each rung doubles both.
RUNG_ANSWERS, RUNG_HELD_ANSWERS, RUNG_EPOCHS = 2_000, 1_000, 0.4
LEAST_OF_ROW, MOST_OF_ROW = 0.5, 10.0  # answers: below, a rung would be the whole file, above, a few rows


@dataclass(frozen=True, slots=True)
class Rung:
    """A short refinement that decides which candidates go on: on so many rows, measured on so many others."""

    number: int  # from 1
    rows: int
    held: int
    share: float  # of the epochs

    def epochs(self, full: int) -> int:
        """Cut the candidate's `full` number short; the learning rate still falls to zero at their end.

        Two at least: in one, warm-up included, none has learned much.
        """
        return max(min(2, full), round(self.share * full))


def plan_rungs(candidates: int, *, rows: int, answers: float) -> list[Rung]:
    """Plan successive halving (Jamieson and Talwalkar 2016): a rung drops half and gives the others twice as much."""
    of_row = min(max(answers / rows, LEAST_OF_ROW), MOST_OF_ROW)
    learned, held = round(RUNG_ANSWERS / of_row), round(RUNG_HELD_ANSWERS / of_row)
    rungs: list[Rung] = []
    while candidates > 1:
        doubled = 2 ** len(rungs)
        rungs.append(Rung(len(rungs) + 1, learned * doubled, held, min(1.0, RUNG_EPOCHS * doubled)))
        candidates = survivors(candidates)
    return rungs


# Work of a whole race, as a share of what the favourite's trial and its fit on all rows take. On 5,452 rows the second
# rung cost more than the trial behind it, to tell apart two candidates that end at 0.970 and 0.972.
RACE_SHARE = 0.5


def worthwhile_rungs(work: Sequence[float], rest: float) -> int:
    """Return how many rungs are run, of which each costs so much `work`; `rest` is that of the favourite after them.

    Never none: the first one is the race.
    """
    total, count = 0.0, 0
    for each in work:
        total += each
        if count and total > RACE_SHARE * rest:
            break
        count += 1
    return count


def survivors(candidates: int) -> int:
    """Return how many of the candidates on a rung go on: the better half."""
    return max(1, candidates // 2)


# Refined models, and those half-way back to the fitted head on the frozen base, weight by weight (arXiv:2109.01903).
BLENDS = (1.0, 0.5)


def choose_moment(scores: Sequence[float], losses: Sequence[float], *, answers: float) -> int:
    """Return the index of the least loss among the moments whose score is within one standard error of the best.

    On few answers the best score alone is luck, and its epoch too early (Breiman et al. 1984).
    """
    top = max(scores)
    noise = (max(top * (1 - top), 0.01) / answers) ** 0.5
    return min((index for index, score in enumerate(scores) if score >= top - noise), key=lambda index: losses[index])
