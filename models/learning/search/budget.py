"""How far refinement is, and whether what is left fits into what `auto` may spend."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from models.learning.contract.events import Progress

BEGINS, ENDS = 30.0, 98.0  # percent of the run


class OverBudget(Exception):
    """What is left to do would take longer than `auto` may spend."""


@dataclass(slots=True)
class Budget:
    """Work done and to do: rows times epochs, each weighted by what a row costs its candidate."""

    limit_s: float | None
    total: float = 0.0
    done: float = 0.0
    began: float = field(default_factory=time.monotonic)
    _shown: float = 0.0

    @property
    def spent_s(self) -> float:
        """Seconds since refinement began."""
        return time.monotonic() - self.began

    def tell(self, within: float, message: str, **metrics: float) -> Progress:
        """A Progress event; `within` is what the fit under way adds to `done`. Raises OverBudget."""
        done = max(self.done + within, 1e-9)
        remaining = self.spent_s * max(self.total - done, 0.0) / done
        # Early on a projection is mostly start-up cost.
        if self.limit_s is not None and self.spent_s > 0.05 * self.limit_s and self.spent_s + remaining > self.limit_s:
            raise OverBudget
        self._shown = max(self._shown, min(done / max(self.total, 1e-9), 1.0))
        return Progress("refining", BEGINS + (ENDS - BEGINS) * self._shown, message, remaining, metrics)

    def affords(self, more: float) -> bool:
        """Whether that much work on top would still end within the budget; if so it is added to the total."""
        if self.limit_s is not None and self.done > 0:
            projected = self.spent_s * (self.total + more) / self.done
            if projected > self.limit_s:
                return False
        self.total += more
        return True
