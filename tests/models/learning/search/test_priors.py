"""How much earlier outcomes count, and how they reach a job."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from models.learning.contract.outcomes import HEAD, Circumstances, Outcome
from models.learning.contract.request import DatasetSource, TrainRequest
from models.learning.search.policy import DEFAULT_ERROR_REDUCTION, DIFFERENT_ERROR_REDUCTION
from models.learning.search.priors import Prior

HERE = Circumstances(770, 77, 10.0, 0.85, 0.86, (0.3, 0.6, 0.8))
SEEN = Outcome(
    base_revision="f00d", task="text-classification", rows=770, classes=77, rows_per_class=10.0, separability=0.85,
    head_score=0.86, depth_scores=(0.3, 0.6, 0.8), candidate="partial", error_reduction=0.2, epochs=3,
)  # fmt: skip


def _prior(*outcomes: Outcome) -> Prior:
    return Prior.of(outcomes, HERE, base_revision="f00d", task="text-classification")


def test_the_nearer_the_more_it_counts() -> None:
    same, larger, alien = SEEN, replace(SEEN, rows=2_000), replace(SEEN, separability=0.1, head_score=0.2)
    assert HERE.nearness(same.circumstances) == 1.0
    assert 0.3 < HERE.nearness(larger.circumstances) < 0.9
    assert HERE.nearness(alien.circumstances) < 0.01
    assert _prior(same).error_reduction("partial") == pytest.approx((DEFAULT_ERROR_REDUCTION + 0.2) / 2)
    assert _prior(alien).error_reduction("partial") == pytest.approx(DEFAULT_ERROR_REDUCTION, abs=0.002)


def test_other_bases_and_tasks_say_nothing() -> None:
    prior = _prior(replace(SEEN, base_revision="beef"), replace(SEEN, task="text-regression"))
    assert prior.near == ()
    assert prior.error_reduction("partial") == DEFAULT_ERROR_REDUCTION


def test_more_is_expected_where_frozen_features_do_badly() -> None:
    different = Prior.of([], replace(HERE, separability=0.5), base_revision="f00d", task="text-classification")
    assert different.error_reduction("lora") == DIFFERENT_ERROR_REDUCTION > _prior().error_reduction("lora")


def test_the_known_winner_trains_for_as_long_as_it_took() -> None:
    assert _prior().epochs("partial", 5) == 5
    assert _prior(SEEN, SEEN).epochs("partial", 5) == 3
    left_on_a_rung = replace(SEEN, epochs=0)  # says nothing of epochs
    assert _prior(SEEN, left_on_a_rung).epochs("partial", 5) == 5


def test_what_never_helped_is_not_expected_to() -> None:
    assert _prior(*[replace(SEEN, error_reduction=-0.1)] * 4).error_reduction("partial") < 0.02


def test_the_head_begins_where_earlier_ones_ended() -> None:
    head = replace(SEEN, candidate=HEAD, features="depths-max", regularization=0.3)
    assert _prior(head).features() is None
    prior = _prior(head, replace(head, regularization=0.03), replace(head, features="last", regularization=0.0))
    assert prior.features() == "depths-max"
    assert prior.regularization() == pytest.approx((0.3 * 0.03) ** 0.5)


def test_a_request_carries_them_across_processes(tmp_path: Path) -> None:
    source = DatasetSource(tmp_path / "rows.csv", "csv")
    request = TrainRequest(source, "text-classification", tmp_path, priors=(SEEN, replace(SEEN, candidate="lora")))
    assert TrainRequest.from_dict(json.loads(json.dumps(request.to_dict()))) == request


def test_outcomes_of_other_versions_are_read() -> None:
    stored = json.loads(json.dumps(asdict(SEEN)))
    assert Outcome.from_dict({**stored, "of_a_later_version": 1}) == SEEN
    stored["relief"] = stored.pop("error_reduction")  # what it was called until December 2026
    assert Outcome.from_dict(stored) == SEEN


def test_two_jobs_that_were_nearly_the_same_are_enough() -> None:
    twice = [replace(SEEN, separability=0.83, head_score=0.85), replace(SEEN, rows=760, separability=0.87)]
    assert max(HERE.nearness(each.circumstances) for each in twice) < 1.0
    assert _prior(*twice).is_known("partial")
    assert not _prior(twice[0]).is_known("partial")
