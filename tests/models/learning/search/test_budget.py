"""What fits into a budget, by a clock that the test moves."""

from __future__ import annotations

import pytest

from models.learning.search.budget import BEGINS, ENDS, Budget, OverBudget


class Clock:
    """Seconds as the test sets them."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_progress_is_a_share_of_the_planned_work_and_never_falls(clock: Clock) -> None:
    budget = Budget(None, now=clock)
    budget.plan(100.0)
    assert budget.progress(0.0, "begins").percent == pytest.approx(BEGINS)
    clock.seconds = 10.0
    half = budget.progress(50.0, "half", loss=0.5)
    assert half.percent == pytest.approx((BEGINS + ENDS) / 2)
    assert half.seconds_remaining == pytest.approx(10.0)
    assert half.metrics == {"loss": 0.5}
    budget.complete(50.0)
    budget.plan(100.0)  # more to do than was thought
    assert budget.progress(0.0, "more").percent == half.percent
    budget.cancel(100.0)
    budget.complete(50.0)
    assert budget.progress(0.0, "all").percent == pytest.approx(ENDS)


def test_what_would_end_too_late_is_given_up(clock: Clock) -> None:
    budget = Budget(100.0, now=clock)
    budget.plan(1_000.0)
    clock.seconds = 4.0
    budget.progress(1.0, "start-up says nothing yet")
    clock.seconds = 20.0
    budget.progress(200.0, "100 s in all")
    with pytest.raises(OverBudget):
        budget.progress(199.0, "more than 100 s in all")


def test_only_work_that_fits_is_planned(clock: Clock) -> None:
    budget = Budget(100.0, now=clock)
    assert budget.plan_if_affordable(1e6)  # nothing is known of the speed yet
    budget.cancel(1e6)
    budget.plan(100.0)
    budget.complete(100.0)
    clock.seconds = 50.0
    assert not budget.plan_if_affordable(101.0)
    assert budget.plan_if_affordable(100.0)
    assert not budget.plan_if_affordable(1.0)  # the budget is full


def test_without_a_limit_everything_fits(clock: Clock) -> None:
    budget = Budget(None, now=clock)
    budget.complete(1.0)
    clock.seconds = 1e9
    assert budget.plan_if_affordable(1e9)
    assert budget.progress(1e8, "at leisure").seconds_remaining is not None


def test_the_rest_is_foretold_once_something_is_done(clock: Clock) -> None:
    budget = Budget(None, now=clock)
    budget.plan(1_000.0)
    clock.seconds = 10.0
    assert budget.progress(0.0, "begins").seconds_remaining is None
    assert budget.progress(250.0, "goes on").seconds_remaining == pytest.approx(30.0)


def test_set_up_is_not_multiplied_by_the_work_left(clock: Clock) -> None:
    budget = Budget(150.0, now=clock)
    budget.plan(1_000.0)
    with budget.set_up():
        clock.seconds = 20.0  # the head of a split and a network, on a busy machine
    clock.seconds = 30.0
    assert budget.progress(100.0, "a tenth in 10 s").seconds_remaining == pytest.approx(90.0)
    clock.seconds = 60.0
    with pytest.raises(OverBudget):
        budget.progress(200.0, "a fifth in 40 s")


def test_what_was_begun_counts_when_the_rest_is_planned_anew(clock: Clock) -> None:
    budget = Budget(100.0, now=clock)
    budget.plan(1_000.0)
    clock.seconds = 20.0
    with pytest.raises(OverBudget):
        budget.progress(100.0, "200 s in all")
    assert not budget.affords(401.0)
    assert budget.affords(400.0)
    assert not budget.affords(400.0, share=0.8)
    budget.replan(300.0)
    clock.seconds = 50.0
    assert budget.progress(150.0, "half of it").seconds_remaining == pytest.approx(30.0)


def test_the_last_fit_may_end_a_little_late_and_not_more(clock: Clock) -> None:
    budget = Budget(100.0, now=clock)
    budget.plan(100.0)
    clock.seconds = 80.0
    with budget.overrun():
        budget.progress(75.0, "107 s in all")
        with pytest.raises(OverBudget):
            budget.progress(70.0, "114 s in all")
    with pytest.raises(OverBudget):
        budget.progress(75.0, "107 s in all, of a fit that is one too many")
    clock.seconds = 120.0
    assert budget.progress(100.0, "done, however late").seconds_remaining is None


def test_no_zero_is_foretold_while_something_is_left(clock: Clock) -> None:
    budget = Budget(None, now=clock)
    budget.plan(100.0)
    clock.seconds = 10.0
    assert budget.progress(130.0, "more rows than were planned").seconds_remaining is None
