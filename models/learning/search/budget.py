"""The search's progress, and whether the work that is left fits into the time that `auto` may spend."""

from __future__ import annotations

import time
from collections.abc import Callable

from models.learning.contract.events import Progress

BEGINS, ENDS = 30.0, 98.0  # percent of the run
# Share of the budget before which nothing is given up: early on a projection is mostly start-up cost.
_START_UP = 0.05
# Share of the work before which no time is foretold: a projection from nothing done is nothing left.
_FORETELLING = 0.02


class OverBudget(Exception):
    """The work that is left would take longer than `auto` may spend."""


class Budget:
    """Work planned and done: rows times epochs, times the weight of the candidate."""

    def __init__(self, limit_s: float | None, *, now: Callable[[], float] = time.monotonic) -> None:
        self._limit_s = limit_s
        self._now = now
        self._began = now()
        self._planned = 0.0
        self._done = 0.0
        self._share_shown = 0.0

    @property
    def spent_s(self) -> float:
        """Seconds since the search began."""
        return self._now() - self._began

    @property
    def done(self) -> float:
        """Work done."""
        return self._done

    def plan(self, work: float) -> None:
        """Add to the planned work, whether it fits or not."""
        self._planned += work

    def cancel(self, work: float) -> None:
        """Take planned work that will not be done off the plan."""
        self._planned -= work

    def plan_if_affordable(self, work: float) -> bool:
        """Add to the planned work if all of it would still end within the limit; return whether it does."""
        if self._limit_s is not None and self._done > 0:
            projected_s = self.spent_s * (self._planned + work) / self._done
            if projected_s > self._limit_s:
                return False
        self.plan(work)
        return True

    def complete(self, work: float) -> None:
        """Count work as done."""
        self._done += work

    def progress(self, under_way: float, message: str, **metrics: float) -> Progress:
        """Return a Progress event with `under_way` more work than is counted as done. Raises OverBudget."""
        done = max(self._done + under_way, 1e-9)
        remaining_s = self.spent_s * max(self._planned - done, 0.0) / done
        limit_s = self._limit_s
        if limit_s is not None and self.spent_s > _START_UP * limit_s and self.spent_s + remaining_s > limit_s:
            raise OverBudget
        self._share_shown = max(self._share_shown, min(done / max(self._planned, 1e-9), 1.0))
        foretold_s = remaining_s if done >= _FORETELLING * self._planned else None
        return Progress("refining", BEGINS + (ENDS - BEGINS) * self._share_shown, message, foretold_s, metrics)
