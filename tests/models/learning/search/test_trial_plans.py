"""Tables of how candidates are tried: what is held out, what a race learns from, which moment is the best."""

from __future__ import annotations

import pytest

from models.learning.search import trial_plans
from models.learning.search.trial_plans import Rung, TrialPlan


@pytest.mark.parametrize(
    ("answers", "rows", "validated", "plan"),
    [
        (60, 60, False, TrialPlan(4, 4, least=2, final_fits=3)),
        (1_500, 1_500, False, TrialPlan(4, 4, least=2, final_fits=3)),
        (1_501, 1_501, False, TrialPlan(5, 3, least=2, final_fits=3)),
        (2_001, 2_001, False, TrialPlan(5, 3)),
        (5_001, 200, False, TrialPlan(8, 3, least=2, final_fits=3)),  # each of several labels is an answer
        (5_001, 2_001, False, TrialPlan(8, 1)),
        (60, 60, True, TrialPlan(1, 1, final_fits=3)),
        (2_001, 2_001, True, TrialPlan(1, 1)),
    ],
)
def test_how_many_splits_are_tried(answers: float, rows: int, validated: bool, plan: TrialPlan) -> None:
    assert trial_plans.plan_trials(answers, rows=rows, validated=validated) == plan


@pytest.mark.parametrize(
    ("plan", "answers", "shortened"),
    [
        (TrialPlan(4, 4, least=2, final_fits=3), 399, TrialPlan(4, 2, final_fits=2)),
        (TrialPlan(4, 4, least=2), 400, TrialPlan(4, 1)),  # a split of 100 answers is enough
        (TrialPlan(1, 1), 10_000, TrialPlan(1, 1)),
    ],
)
def test_trials_that_confirm_earlier_jobs_are_shorter(plan: TrialPlan, answers: float, shortened: TrialPlan) -> None:
    assert plan.shortened(answers) == shortened


def test_work_of_a_plan_includes_the_final_fit() -> None:
    plan = TrialPlan(4, 4, least=2)
    assert plan.work(100) == pytest.approx(2 * 75 + 100)
    assert plan.most_work(100) == pytest.approx(4 * 75 + 100)
    assert plan.most_work(100, final_fits=3) == pytest.approx(4 * 75 + 3 * 100)
    assert TrialPlan(1, 1).work(100) == 200  # a validation file: all rows, twice


@pytest.mark.parametrize(
    ("candidates", "rows", "answers", "rungs"),
    [
        (1, 1_000, 1_000, []),
        (2, 1_000, 1_000, [Rung(1, 2_000, 1_000, 0.4)]),
        (3, 1_000, 1_000, [Rung(1, 2_000, 1_000, 0.4)]),
        (5, 1_000, 1_000, [Rung(1, 2_000, 1_000, 0.4), Rung(2, 4_000, 1_000, 0.8)]),
        (8, 1_000, 1_000, [Rung(1, 2_000, 1_000, 0.4), Rung(2, 4_000, 1_000, 0.8), Rung(3, 8_000, 1_000, 1.0)]),
        # Rows of four answers each: a quarter of the rows.
        (2, 1_000, 4_000, [Rung(1, 500, 250, 0.4)]),
        (2, 100, 400, [Rung(1, 500, 250, 0.4)]),
        # Within bounds: rows of hardly any answer, and of very many.
        (2, 1_000, 300, [Rung(1, 4_000, 2_000, 0.4)]),
        (2, 1_000, 40_000, [Rung(1, 200, 100, 0.4)]),
    ],
)
def test_rungs(candidates: int, rows: int, answers: float, rungs: list[Rung]) -> None:
    assert trial_plans.plan_rungs(candidates, rows=rows, answers=answers) == rungs


@pytest.mark.parametrize(
    ("work", "rest", "rungs"),
    [([40, 100], 200, 1), ([40, 60], 200, 2), ([40, 61, 1], 200, 1), ([150], 200, 1), ([], 1, 0)],
)
def test_rungs_that_cost_more_than_half_of_what_follows_are_left_out(
    work: list[float], rest: float, rungs: int
) -> None:
    assert trial_plans.worthwhile_rungs(work, rest) == rungs


@pytest.mark.parametrize(
    ("share", "full", "epochs"), [(0.4, 5, 2), (0.8, 5, 4), (0.4, 3, 2), (0.4, 1, 1), (1.0, 20, 20)]
)
def test_epochs_of_a_rung(share: float, full: int, epochs: int) -> None:
    assert Rung(1, 2_000, 1_000, share).epochs(full) == epochs


@pytest.mark.parametrize(("candidates", "left"), [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2)])
def test_half_of_a_rung_goes_on(candidates: int, left: int) -> None:
    assert trial_plans.survivors(candidates) == left


@pytest.mark.parametrize(
    ("scores", "losses", "answers", "chosen"),
    [
        ([0.80, 0.81, 0.79], [0.60, 0.55, 0.50], 300, 2),  # all within 2.2 points: the least loss
        ([0.80, 0.90, 0.70], [0.40, 0.55, 0.30], 400, 1),  # 1.5 points: the others are clearly worse
        ([0.80, 0.81, 0.79], [0.60, 0.55, 0.50], 400_000, 1),
        ([1.0, 0.97], [0.20, 0.10], 100, 0),  # of no errors at all a standard error remains: one point here
    ],
)
def test_the_best_moment(scores: list[float], losses: list[float], answers: float, chosen: int) -> None:
    assert trial_plans.choose_moment(scores, losses, answers=answers) == chosen
