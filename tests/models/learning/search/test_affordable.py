"""What is done where the budget is too small, by a clock that the test moves."""

from __future__ import annotations

import pytest

from models.learning.search.budget import Budget, find_affordable, reductions
from models.learning.search.trial_plans import TrialPlan

from .test_budget import Clock
from .test_racing import candidate

PARTIAL, PARTIAL_2, LORA = candidate("partial", 2.0), candidate("partial-2", 1.3), candidate("lora", 2.25)
PLAN = TrialPlan(4, 4, least=2)
ROWS = 100
WHOLE = PARTIAL.work(PLAN.work(ROWS))


def found(seconds: float, *, epochs_fixed: bool = False) -> tuple[str, int, int] | None:
    """What is done in so many seconds beyond those that are kept in hand: candidate, epochs, splits."""
    clock = Clock()
    budget = Budget(10.0 + seconds / 0.8, now=clock)
    budget.plan(WHOLE)
    clock.seconds = 10.0
    budget.complete(10.0)  # one second each
    ways = reductions(PARTIAL, [PARTIAL, PARTIAL_2, LORA], PLAN, epochs_fixed=epochs_fixed)
    each = find_affordable(ways, budget, ROWS)
    return None if each is None else (each.candidate.name, each.candidate.config.epochs, each.trials.used)


@pytest.mark.parametrize(
    ("seconds", "done"),
    [
        (WHOLE, ("partial", 5, 4)),
        (WHOLE - 1, ("partial", 5, 1)),
        (0.65 * WHOLE, ("partial", 3, 4)),
        (0.5 * WHOLE, ("partial", 3, 1)),
        (0.4 * WHOLE, ("partial-2", 3, 1)),
        (0.2 * WHOLE, ("partial-2", 2, 1)),
        (0.1 * WHOLE, ("partial-2", 1, 1)),
        (0.05 * WHOLE, None),
    ],
)
def test_less_is_done_before_nothing_is(seconds: float, done: tuple[str, int, int] | None) -> None:
    assert found(seconds + 1e-6) == done


def test_a_customers_own_number_of_epochs_is_not_reduced() -> None:
    assert found(0.5 * WHOLE, epochs_fixed=True) == ("partial-2", 5, 1)
    assert found(0.2 * WHOLE, epochs_fixed=True) is None
