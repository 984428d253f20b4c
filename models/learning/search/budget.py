"""The search's progress, and whether the work that is left fits into the time that `auto` may spend."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from models.learning.contract.events import Progress
from models.learning.search.candidates import Candidate
from models.learning.search.trial_plans import TrialPlan

BEGINS, ENDS = 30.0, 98.0  # percent of the run
# Share of the budget that has to be spent on rows before a projection counts: first batches are slower than the rest.
_MEASURED = 0.05
# Share of the work before which no time is estimated: a projection from nothing done is nothing left.
_ESTIMATED_FROM = 0.02
# Of the budget, for the last fit alone: what led to it is paid for, and a machine may be busier than it was.
_OVERRUN = 1.1
# Shares of the epochs, in order: most of a gain comes with the first ones (LEAST_EPOCHS of `policy` is the first).
_EPOCH_SHARES = (1.0, 0.6, 0.4, 0.2)
# Of the time left: rates on a busy machine vary, and the answers to held-out rows are not in the work.
_SAFE = 0.8


class OverBudget(Exception):
    """The work that is left would take longer than `auto` may spend."""


class Budget:
    """Work planned and done: rows times epochs, times the weight of the candidate.

    Set-up (the head of a split, a network) takes the same time for one epoch as for six, so it is measured apart and
    does not count in what a row costs: multiplied by the work left, 9 of 9 jobs on a busy machine gave up at once.
    """

    def __init__(self, limit_s: float | None, *, now: Callable[[], float] = time.monotonic) -> None:
        self._limit_s = limit_s
        self._now = now
        self._began = now()
        self._planned = 0.0
        self._done = 0.0
        self._under_way = 0.0
        self._set_up_s = 0.0
        self._set_ups = 0
        self._share_shown = 0.0

    @property
    def spent_s(self) -> float:
        """Seconds since the search began."""
        return self._now() - self._began

    @property
    def done(self) -> float:
        """Work done."""
        return self._done

    @contextmanager
    def set_up(self) -> Iterator[None]:
        """Measure what is done inside as set-up."""
        began = self._now()
        try:
            yield
        finally:
            self._set_up_s += self._now() - began
            self._set_ups += 1

    def plan(self, work: float) -> None:
        """Add to the planned work, whether it fits or not."""
        self._planned += work

    def cancel(self, work: float) -> None:
        """Take planned work that will not be done off the plan."""
        self._planned -= work

    def abandon(self, work: float) -> None:
        """Take planned work that was begun off the plan; what was done of it stays."""
        self._planned -= work - self._under_way
        self.complete(self._under_way)

    def replan(self, work: float) -> None:
        """Plan this work and nothing else; what is under way ends here, and counts as done."""
        self.complete(self._under_way)
        self._planned = self._done + work

    def plan_if_affordable(self, work: float) -> bool:
        """Add to the planned work if all of it would still end within the limit; return whether it does."""
        if not self.affords(self._planned - self._done + work):
            return False
        self.plan(work)
        return True

    def affords(self, work: float, *, share: float = 1.0, set_ups: int = 1) -> bool:
        """Return whether so much work and so many set-ups end within a share of the time left; True if unknown."""
        if self._limit_s is None or self._rate_s is None:
            return True
        return self._rate_s * work + set_ups * self._mean_set_up_s <= share * (self._limit_s - self.spent_s)

    @contextmanager
    def overrun(self) -> Iterator[None]:
        """Let what is done inside, the last fit, end a little after the limit."""
        limit_s = self._limit_s
        if limit_s is not None:
            self._limit_s = limit_s * _OVERRUN
        try:
            yield
        finally:
            self._limit_s = limit_s

    def complete(self, work: float) -> None:
        """Count work as done."""
        self._done += work
        self._under_way = 0.0

    def progress(self, under_way: float, message: str, **metrics: float) -> Progress:
        """Return a Progress event with `under_way` more work than is counted as done. Raises OverBudget."""
        self._under_way = under_way
        done, rate_s, limit_s = self._done + under_way, self._rate_s or 0.0, self._limit_s
        left = max(self._planned - done, 0.0)
        remaining_s = rate_s * left
        if limit_s is not None:
            measured = self.spent_s - self._set_up_s > _MEASURED * limit_s
            if left > 0 and (self.spent_s > limit_s or (measured and self.spent_s + remaining_s > limit_s)):
                raise OverBudget
        self._share_shown = max(self._share_shown, min(done / max(self._planned, 1e-9), 1.0))
        # Nothing is estimated from hardly anything, and no zero while something is left: an event means there is.
        known = done >= _ESTIMATED_FROM * self._planned and remaining_s > 0
        percent = BEGINS + (ENDS - BEGINS) * self._share_shown
        return Progress("refining", percent, message, remaining_s if known else None, metrics)

    @property
    def _rate_s(self) -> float | None:
        """Seconds of a unit of work on this machine so far."""
        done = self._done + self._under_way
        return (self.spent_s - self._set_up_s) / done if done > 0 else None

    @property
    def _mean_set_up_s(self) -> float:
        return self._set_up_s / max(self._set_ups, 1)


@dataclass(frozen=True, slots=True)
class Reduced:
    """A candidate, with as many epochs as fit, and the splits on which it is tried."""

    candidate: Candidate
    trials: TrialPlan


def reductions(
    favourite: Candidate, candidates: Sequence[Candidate], trials: TrialPlan, *, epochs_fixed: bool
) -> Iterator[Reduced]:
    """Yield what may be done, the best first: the favourite as it is, for shorter, on one split; then the cheapest.

    `epochs_fixed`: the customer's own number, which is never changed. `partial-4` costs a sixth less than
    `partial`.
    """
    one_split = replace(trials, used=1, least=1)
    cheaper = sorted((each for each in candidates if each.weight < favourite.weight), key=lambda each: each.weight)
    shares = _EPOCH_SHARES[:1] if epochs_fixed else _EPOCH_SHARES
    yield Reduced(favourite, trials)
    for share in shares[:2]:
        yield Reduced(_shortened(favourite, share), trials)
        yield Reduced(_shortened(favourite, share), one_split)
    for share in shares[1:] or shares:
        for candidate in (favourite, *cheaper[:1]):
            yield Reduced(_shortened(candidate, share), one_split)


def find_affordable(reduced: Iterator[Reduced], budget: Budget, rows: int) -> Reduced | None:
    """Return the first that ends within the budget; None if none does. Two fits at least have to be set up."""
    for each in reduced:
        if budget.affords(each.candidate.work(each.trials.work(rows)), share=_SAFE, set_ups=each.trials.least + 1):
            return each
    return None


def _shortened(candidate: Candidate, share: float) -> Candidate:
    return candidate.with_epochs(max(1, round(share * candidate.config.epochs)))
