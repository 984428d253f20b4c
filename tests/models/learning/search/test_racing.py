"""Which candidates go on, and what the report says of the others; refinements are written down, not trained."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from models.learning.contract.errors import Diverged
from models.learning.contract.events import TrainEvent
from models.learning.finetuning.strategies import FINE_TUNING_STRATEGIES, TrainingConfig
from models.learning.search import racing, trial_plans
from models.learning.search.budget import Budget, OverBudget
from models.learning.search.candidates import Candidate
from models.learning.search.held_out import Trial
from models.learning.search.racing import Race, RungTrials, rung_work
from models.learning.search.report import CandidateRecord, Expectations, SearchReport
from models.learning.search.trial_plans import Rung

from .answers import trial

HEAD = 50  # wrong answers of the head


def candidate(name: str, weight: float = 2.0) -> Candidate:
    strategy = FINE_TUNING_STRATEGIES[name.partition("-")[0]]
    return Candidate(name, TrainingConfig(strategy, 5, 32, 1e-4, 1e-3, strategy.lora_rank, 6), weight)


CANDIDATES = [candidate(name) for name in ("partial", "partial-2", "lora", "full")]


def report(candidates: list[Candidate]) -> SearchReport:
    expectations = Expectations({}, 0.0, 0.8, dict.fromkeys((each.name for each in candidates), 100.0), 1_000.0)
    return SearchReport([CandidateRecord(each, 0.08) for each in candidates], expectations)


def left_at(found: SearchReport) -> dict[str, str]:
    return {record.candidate.name: record.left_at for record in found.records}


class Refinements:
    """What a refinement comes to, by rung and candidate: a number of wrong answers, or an error."""

    def __init__(self, wrong: Mapping[int, Mapping[str, int | Exception]]) -> None:
        self.wrong = wrong
        self.refined: list[tuple[int, str]] = []

    def __call__(self, rung: Rung) -> RungTrials:
        def refine(each: Candidate) -> Generator[TrainEvent, None, Trial]:
            yield from ()
            self.refined.append((rung.number, each.name))
            wrong = self.wrong[rung.number][each.name]
            if isinstance(wrong, Exception):
                raise wrong
            return trial(wrong=wrong, head=HEAD)

        return RungTrials(rung.rows, refine)


def run(race: Race, candidates: list[Candidate]) -> Candidate | None:
    def end() -> Iterator[Any]:
        winner = yield from race.run(candidates)
        yield winner

    return list(end())[-1]


def start(refinements: Refinements, budget: Budget | None = None) -> tuple[Race, SearchReport]:
    found = report(CANDIDATES)
    rungs = trial_plans.plan_rungs(len(CANDIDATES), rows=5_000, answers=5_000)
    return Race(rungs, refinements, budget or Budget(None), found), found


def test_the_better_half_goes_on() -> None:
    refinements = Refinements(
        {1: {"partial": 40, "partial-2": 45, "lora": 30, "full": 48}, 2: {"partial": 20, "lora": 30}}
    )
    race, found = start(refinements)
    winner = run(race, CANDIDATES)
    assert winner is not None
    assert winner.name == "partial"
    assert left_at(found) == {"partial": "trial", "partial-2": "rung 1", "lora": "rung 2", "full": "rung 1"}
    assert refinements.refined[4:] == [(2, "lora"), (2, "partial")]  # the better one first
    assert {record.candidate.name: sorted(record.rungs) for record in found.records} == {
        "partial": [1, 2], "partial-2": [1], "lora": [1, 2], "full": [1],
    }  # fmt: skip


def test_the_better_of_the_last_rung_wins_where_no_rung_is_worth_its_work() -> None:
    race, found = start(Refinements({1: {"partial": 40, "partial-2": 45, "lora": 30, "full": 48}}))
    winner = run(replace(race, rungs=race.rungs[:1]), CANDIDATES)
    assert winner is not None
    assert winner.name == "lora"
    assert left_at(found) == {"lora": "trial", "partial": "rung 1", "partial-2": "rung 1", "full": "rung 1"}


def test_nothing_goes_on_where_all_are_hopeless() -> None:
    race, found = start(Refinements({1: dict.fromkeys((each.name for each in CANDIDATES), 150)}))
    assert run(race, CANDIDATES) is None
    assert set(left_at(found).values()) == {"rung 1"}


def test_one_that_diverges_is_out() -> None:
    diverged = Diverged(epoch=1, learning_rate=1e-3)
    race, found = start(
        Refinements({1: {"partial": diverged, "partial-2": 40, "lora": 45, "full": diverged}, 2: {"partial-2": 40}})
    )
    winner = run(race, CANDIDATES)
    assert winner is not None
    assert winner.name == "partial-2"
    assert left_at(found)["partial"] == left_at(found)["full"] == "diverged on rung 1"


def test_all_leave_where_not_even_the_first_fits() -> None:
    race, found = start(Refinements({1: {"partial": OverBudget()}}))
    with pytest.raises(OverBudget):
        run(race, CANDIDATES)
    assert set(left_at(found).values()) == {"budget"}


def test_a_later_one_that_does_not_fit_leaves_its_work_undone() -> None:
    budget = Budget(None)
    wrong: dict[str, int | Exception] = {"partial": 40, "partial-2": 45, "lora": 48, "full": OverBudget()}
    race, found = start(Refinements({1: wrong}), budget)
    winner = run(race, CANDIDATES)
    assert winner is not None
    assert winner.name == "partial"
    assert left_at(found)["full"] == "budget"
    budget.complete(3 * rung_work(CANDIDATES[0], race.rungs[0], 2_000))
    assert budget.progress(0.0, "all that is planned is done").percent == pytest.approx(98.0)


def test_work_of_a_race_is_that_of_the_dearest_that_may_go_on() -> None:
    entrants = [candidate("partial", 3.0), candidate("partial-2", 1.5), candidate("lora", 2.0), candidate("full", 3.0)]
    rungs = [Rung(1, 2_000, 1_000, 0.4), Rung(2, 4_000, 1_000, 0.8)]
    assert racing.work(entrants, rungs, 3_000) == [
        rung_work(entrants[0], rungs[0], 3_000) * 9.5 / 3.0, 2 * rung_work(entrants[0], rungs[1], 3_000),
    ]  # fmt: skip


def test_work_on_a_rung_is_rows_epochs_and_weight() -> None:
    rung = Rung(1, 2_000, 1_000, 0.4)
    assert rung_work(candidate("partial", weight=2.0), rung, 1_500) == 1_500 * 2 * 2.0
    assert rung_work(candidate("partial", weight=2.0), rung, 9_000) == 2_000 * 2 * 2.0
