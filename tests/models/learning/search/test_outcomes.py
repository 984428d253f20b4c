"""How a job's outcomes are remembered; refinements are written down, not trained."""

from __future__ import annotations

import pytest

from models.learning.contract.outcomes import HEAD, Circumstances, Outcome
from models.learning.contract.request import Hyperparameters
from models.learning.search import outcomes, policy
from models.learning.search.candidates import with_epochs_of_earlier_jobs
from models.learning.search.priors import Prior
from models.learning.search.report import CandidateRecord

from .answers import trial
from .test_racing import candidate

HERE = Circumstances(770, 77, 10.0, 0.85, 0.86, (0.3, 0.6, 0.8))
THE_HEAD = Outcome("f00d", "text-classification", 770, 77, 10.0, 0.85, 0.86, (0.3, 0.6, 0.8), HEAD)
WRONG = 50  # answers of the head, of 300


def record(name: str, *rungs: int, tried: int | None = None) -> CandidateRecord:
    """A candidate that had so many wrong answers on its rungs, and in its trial."""
    short = {number: trial(wrong=wrong, head=WRONG) for number, wrong in enumerate(rungs, start=1)}
    full = None if tried is None else trial(wrong=tried, head=WRONG, epochs=4)
    return CandidateRecord(candidate(name), 0.08, rungs=short, trial=full)


def remembered(*records: CandidateRecord) -> list[Outcome]:
    return [outcomes.describe_candidate(THE_HEAD, each, records) for each in records]


def reductions(*records: CandidateRecord) -> dict[str, float]:
    return {each.candidate: round(each.error_reduction, 6) for each in remembered(*records)}


def test_a_loser_is_as_far_behind_the_winner_as_it_was_on_its_rung() -> None:
    assert reductions(record("partial", 40, tried=30), record("lora", 45)) == {"partial": 0.4, "lora": 0.3}


def test_a_loser_is_never_remembered_as_better_than_the_winner() -> None:
    # More right answers than the winner on the rung where it left: its loss was greater.
    assert reductions(record("partial", 40, tried=30), record("lora", 35)) == {"partial": 0.4, "lora": 0.4}
    assert reductions(record("partial", 40, tried=55), record("lora", 35)) == {"partial": -0.1, "lora": -0.1}


def test_without_a_trial_it_is_no_better_than_what_went_on() -> None:
    found = reductions(record("partial", 40, 30), record("lora", 35), record("full", 45))
    assert found == {"partial": 0.4, "lora": 0.2, "full": 0.1}


@pytest.mark.parametrize("winner", ["partial", "lora"])
def test_the_third_job_tries_what_won_in_two(winner: str) -> None:
    loser = {"partial": "lora", "lora": "partial"}[winner]
    of_two = remembered(record(winner, 40, tried=30), record(loser, 35)) * 2
    prior = Prior.of(of_two, HERE, base_revision="f00d", task="text-classification")
    assert prior.is_known(winner)
    assert prior.is_known(loser)
    expected = prior.expected(["partial", "lora"])
    assert policy.choose_entrants(expected, {"partial", "lora"}) == [winner]


def test_a_customers_own_number_of_epochs_is_never_cut() -> None:
    prior = Prior.of(
        remembered(record("partial", tried=30)) * 3, HERE, base_revision="f00d", task="text-classification"
    )
    default = candidate("partial").with_epochs(10)
    assert with_epochs_of_earlier_jobs(default, prior, Hyperparameters()).config.epochs == 6
    assert with_epochs_of_earlier_jobs(default, prior, Hyperparameters(n_epochs=10)).config.epochs == 10
