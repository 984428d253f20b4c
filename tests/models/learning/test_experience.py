"""How much earlier outcomes count, and what follows from them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from models.learning.contract.outcomes import HEAD, Circumstances, Outcome
from models.learning.contract.request import DatasetSource, TrainRequest
from models.learning.finetuning.strategies import STRATEGIES, TrainingConfig
from models.learning.search.candidates import Candidate
from models.learning.search.policy import choose_field, plan_rungs
from models.learning.search.priors import UNLIKE_RELIEF, USUAL_RELIEF, Prior

HERE = Circumstances(770, 77, 10.0, 0.85, 0.86, (0.3, 0.6, 0.8))
SEEN = Outcome(
    base_revision="f00d", task="text-classification", rows=770, classes=77, rows_per_class=10.0, separability=0.85,
    head_score=0.86, depth_scores=(0.3, 0.6, 0.8), candidate="partial", relief=0.2, epochs=3,
)  # fmt: skip


def _contender(name: str, weight: float = 3.0) -> Candidate:
    strategy = STRATEGIES[name.split("-", maxsplit=1)[0]]
    return Candidate(name, TrainingConfig(strategy, strategy.epochs, 32, 1e-4, 1e-3, strategy.low_rank, 6), weight)


FIELD = [_contender("partial"), _contender("partial-2"), _contender("lora")]


def _outlook(*outcomes: Outcome) -> Prior:
    return Prior.of(outcomes, HERE, base_revision="f00d", task="text-classification")


def test_the_nearer_the_more_it_counts() -> None:
    same, larger, alien = SEEN, replace(SEEN, rows=2_000), replace(SEEN, separability=0.1, head_score=0.2)
    assert HERE.nearness(same.circumstances) == 1.0
    assert 0.3 < HERE.nearness(larger.circumstances) < 0.9
    assert HERE.nearness(alien.circumstances) < 0.01
    assert _outlook(same).relief("partial") == pytest.approx((USUAL_RELIEF + 0.2) / 2)
    assert _outlook(alien).relief("partial") == pytest.approx(USUAL_RELIEF, abs=0.002)


def test_other_bases_and_tasks_say_nothing() -> None:
    outlook = _outlook(replace(SEEN, base_revision="beef"), replace(SEEN, task="text-regression"))
    assert outlook.near == ()
    assert outlook.relief("partial") == USUAL_RELIEF


def test_more_is_expected_where_frozen_features_do_badly() -> None:
    unlike = Prior.of([], replace(HERE, separability=0.5), base_revision="f00d", task="text-classification")
    assert unlike.relief("lora") == UNLIKE_RELIEF > _outlook().relief("lora")


def test_nothing_known_everybody_races() -> None:
    assert [candidate.name for candidate in choose_field(FIELD, _outlook())] == ["partial", "partial-2", "lora"]
    assert [(rung.number, rung.rows, rung.share) for rung in plan_rungs(3, rows=1_000)] == [(1, 2_000, 0.4)]
    assert [rung.number for rung in plan_rungs(5, rows=1_000)] == [1, 2]
    assert [(rung.number, rung.share) for rung in plan_rungs(3, rows=60)] == [(1, 1.0)]
    assert plan_rungs(1, rows=1_000) == []


def test_the_known_winner_goes_alone_and_for_as_long_as_it_took() -> None:
    others = [replace(SEEN, candidate=name, relief=0.05, epochs=0) for name in ("partial-2", "lora")]
    (alone,) = choose_field(FIELD, _outlook(*[SEEN, *others] * 3))
    assert alone.name == "partial"
    assert alone.schedule.epochs == 3


def test_what_never_helped_is_not_expected_to() -> None:
    assert _outlook(*[replace(SEEN, relief=-0.1)] * 4).relief("partial") < 0.02


def test_the_head_begins_where_earlier_ones_ended() -> None:
    head = replace(SEEN, candidate=HEAD, features="depths-max", regularization=0.3)
    assert _outlook(head).usual_features() is None
    told = _outlook(head, replace(head, regularization=0.03), replace(head, features="last", regularization=0.0))
    assert told.usual_features() == "depths-max"
    assert told.usual_regularization() == pytest.approx((0.3 * 0.03) ** 0.5)


def test_a_request_carries_them_across_processes(tmp_path: Path) -> None:
    source = DatasetSource(tmp_path / "rows.csv", "csv")
    request = TrainRequest(source, "text-classification", tmp_path, experience=(SEEN, replace(SEEN, candidate="lora")))
    assert TrainRequest.from_dict(json.loads(json.dumps(request.to_dict()))) == request
    assert Outcome.from_dict({**asdict(SEEN), "of_a_later_version": 1}) == SEEN


def test_two_jobs_that_were_nearly_the_same_are_enough() -> None:
    twice = [replace(SEEN, separability=0.83, head_score=0.85), replace(SEEN, rows=760, separability=0.87)]
    assert max(HERE.nearness(each.circumstances) for each in twice) < 1.0
    assert _outlook(*twice).knows("partial")
    assert not _outlook(twice[0]).knows("partial")
