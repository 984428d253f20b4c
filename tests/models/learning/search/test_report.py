"""What a search's report says of costs and of how candidates left."""

from __future__ import annotations

from models.learning.finetuning.strategies import FINE_TUNING_STRATEGIES, TrainingConfig
from models.learning.search.candidates import Candidate
from models.learning.search.report import CandidateRecord, Expectations, SearchReport

from .answers import trial


def _candidate(name: str, weight: float) -> Candidate:
    return Candidate(name, TrainingConfig(FINE_TUNING_STRATEGIES[name], 5, 32, 1e-4, 1e-3, 0, 6), weight)


PARTIAL, LORA = _candidate("partial", 2.0), _candidate("lora", 2.25)


def _report() -> SearchReport:
    expectations = Expectations(
        verdict={"strategy": "partial"},
        earlier_jobs=1.234,
        head_score=0.75,
        work={"partial": 400.0, "lora": 450.0},
        work_of_every_strategy=2_000.0,
    )
    return SearchReport([CandidateRecord(PARTIAL, 0.08), CandidateRecord(LORA, 0.2)], expectations, tried_before=[{}])


def test_before_anything_was_refined() -> None:
    found = _report().refinement(spent_s=3.0)
    assert found["strategy"] == "partial"
    assert found["earlier_jobs"] == 1.23
    assert [(each["name"], each["expected_gain"], each["left_at"]) for each in found["candidates"]] == [
        ("partial", 0.02, "not entered"), ("lora", 0.05, "not entered"),
    ]  # fmt: skip
    assert found["cost"] == {
        "seconds": 0.0, "tokens": 0, "row_epochs": 0, "passes": 0, "of_trying_every_strategy": 0.0,
    }  # fmt: skip
    assert _report().strategies_tried() == [{}]


def test_costs_add_up() -> None:
    report = _report()
    for work in (100.0, 200.0):
        report.add_cost(PARTIAL, seconds=1.0, work=work, tokens=50)
    report.add_rung(PARTIAL, 1, trial(wrong=40, head=50))
    report.add_trial(PARTIAL, trial(wrong=20, head=50, epochs=3))
    report.set_stage(PARTIAL, "trained on all rows")
    found = report.refinement(spent_s=3.0)
    assert found["cost"] == {
        "seconds": 3.0, "tokens": 100, "row_epochs": 150, "passes": 300, "of_trying_every_strategy": 0.15,
    }  # fmt: skip
    assert found["candidates"][0]["score"] == 1 - 20 / 300  # of the trial in full, not of the rung
    _, entry = report.strategies_tried()  # one that has cost nothing is not among them
    assert (entry["name"], entry["epochs"], entry["row_epochs"]) == ("partial", 3, 150)
    assert "abandoned" not in entry


def test_a_trial_that_is_no_better_is_not_called_better() -> None:
    for wrong, head, improves in ((20, 50, True), (50, 50, False), (0, 0, False), (60, 50, False)):
        report = _report()
        report.add_trial(PARTIAL, trial(wrong=wrong, head=head))
        report.set_stage(PARTIAL, "trained on all rows")
        tried, other = report.refinement(spent_s=3.0)["candidates"]
        assert (tried["improves"], other["improves"]) == (improves, None)


def test_what_was_given_up_says_why() -> None:
    report = _report()
    report.add_cost(LORA, seconds=1.0, work=1.0, tokens=1)
    report.set_stage(LORA, "trial")
    report.abandon(diverged=False)
    assert report.strategies_tried()[-1]["abandoned"] == "it would have taken longer than the budget for refinement"
    report.set_stage(LORA, "trial")
    report.abandon(diverged=True)
    assert [record.left_at for record in report.records] == ["not entered", "diverged"]
