"""The report of a search: what was done with each candidate and at which cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from models.learning.search import policy
from models.learning.search.candidates import Candidate
from models.learning.search.held_out import Trial


@dataclass(slots=True)
class CandidateRecord:
    """A candidate's trials and costs so far. Only its SearchReport changes it."""

    candidate: Candidate
    expected_error_reduction: float
    left_at: str = "not entered"  # "rung 1", "trial", …
    reduced: str = ""  # what was left out to fit into the budget
    rungs: dict[int, Trial] = field(default_factory=dict)
    trial: Trial | None = None  # of all splits
    seconds: float = 0.0
    row_epochs: float = 0.0
    tokens: int = 0

    @property
    def longest(self) -> Trial | None:
        """The longest of its trials."""
        return self.trial or (self.rungs[max(self.rungs)] if self.rungs else None)

    @property
    def improves(self) -> bool | None:
        """Whether its trial was better than the head; None before there was one. A job may ask for it all the same."""
        return None if self.trial is None else bool(policy.improves(self.trial.figures))


@dataclass(frozen=True, slots=True)
class Expectations:
    """Numbers that were known before the search began."""

    verdict: dict[str, Any]
    earlier_jobs: float
    head_score: float
    work: dict[str, float]  # of each candidate, its trial and final fit together
    work_of_every_strategy: float


class SearchReport:
    """Two entries of a run's report, built while the search goes on: `strategies_tried` and `refinement`."""

    def __init__(
        self,
        records: Sequence[CandidateRecord],
        expectations: Expectations,
        *,
        tried_before: Sequence[dict[str, Any]] = (),
    ) -> None:
        self._records = {record.candidate.name: record for record in records}
        self._expectations = expectations
        self._tried_before = tuple(tried_before)
        self._under_way = ""  # the candidate whose stage was set last

    @property
    def records(self) -> Sequence[CandidateRecord]:
        """Records in the order of the candidates, to be read."""
        return tuple(self._records.values())

    def set_stage(self, candidate: Candidate, stage: str) -> None:
        """Set the stage that a candidate is at; the last one set is reported as `left_at`."""
        self._records[candidate.name].left_at = stage
        self._under_way = candidate.name

    def reduce(self, candidate: Candidate, *, splits: int) -> None:
        """Set that a candidate is refined for fewer epochs or on fewer splits than planned, to fit into the budget."""
        self._records[candidate.name].reduced = f"{candidate.config.epochs} epochs, tried on {splits} splits at most"

    def add_rung(self, candidate: Candidate, number: int, trial: Trial) -> None:
        """Add the figures of a short refinement."""
        self._records[candidate.name].rungs[number] = trial

    def add_trial(self, candidate: Candidate, trial: Trial) -> None:
        """Add the figures of the trial in full."""
        self._records[candidate.name].trial = trial

    def add_cost(self, candidate: Candidate, *, seconds: float, work: float, tokens: int) -> None:
        """Add the cost of a step."""
        record = self._records[candidate.name]
        record.seconds += seconds
        record.row_epochs += work / record.candidate.weight
        record.tokens += tokens

    def abandon(self, *, diverged: bool) -> None:
        """Set why the candidate under trial was given up: it diverged, or the budget is spent."""
        record = self._records.get(self._under_way)
        if record is not None and record.left_at == "trial":
            record.left_at = "diverged" if diverged else "budget"

    def strategies_tried(self) -> list[dict[str, Any]]:
        """Return the report's `strategies_tried`: those before the search, and each candidate that cost anything."""
        return [*self._tried_before, *(_describe(record) for record in self._tried())]

    def refinement(self, spent_s: float) -> dict[str, Any]:
        """Return the report's `refinement`; `spent_s` are the seconds of the whole search."""
        tried, expectations = self._tried(), self._expectations
        spent = sum(record.row_epochs * record.candidate.weight for record in tried)
        return {
            **expectations.verdict,
            "earlier_jobs": round(expectations.earlier_jobs, 2),
            "candidates": [
                {
                    "name": name,
                    "expected_gain": record.expected_error_reduction * (1.0 - expectations.head_score),
                    "estimated_cost": round(expectations.work[name]),
                    "cost": round(record.row_epochs * record.candidate.weight),
                    "seconds": round(record.seconds, 3),
                    "score": None if record.longest is None else record.longest.new.score.value,
                    "improves": record.improves,
                    "left_at": record.left_at,
                }
                for name, record in self._records.items()
            ],
            # In rows passed through the whole frozen base: what an estimate before the race is made of.
            "cost": {
                "seconds": round(spent_s, 3) if tried else 0.0,
                "tokens": sum(record.tokens for record in tried),
                "row_epochs": round(sum(record.row_epochs for record in tried)),
                "passes": round(spent),
                "of_trying_every_strategy": spent / expectations.work_of_every_strategy,
            },
        }

    def _tried(self) -> list[CandidateRecord]:
        return [record for record in self._records.values() if record.seconds]


def _describe(record: CandidateRecord) -> dict[str, Any]:
    common = {
        "name": record.candidate.name,
        "strategy": record.candidate.config.strategy.name,
        "left_at": record.left_at,
        "seconds": round(record.seconds, 3),
        "row_epochs": round(record.row_epochs),
        "tokens": record.tokens,
    }
    if record.left_at == "budget":
        common["abandoned"] = "it would have taken longer than the budget for refinement"
    if record.reduced:
        common["reduced"] = f"to fit into the budget for refinement: {record.reduced}"
    trial = record.longest
    if trial is None:
        return common
    return {
        **common,
        "score": trial.new.score.value,
        "score_low": trial.new.interval.low,
        "score_high": trial.new.interval.high,
        "rows": len(trial.held.targets),
        "head_score_on_these_rows": trial.old.score.value,
        "gain": trial.comparison.gain,
        "gain_low": trial.comparison.low,
        "gain_high": trial.comparison.high,
        "probability_better": trial.comparison.probability,
        "mcnemar_p": trial.comparison.p_value,
        "log_loss": trial.figures.new_loss,
        "head_log_loss": trial.figures.old_loss,
        "log_loss_noise": trial.figures.loss_noise,
        "epochs": trial.epochs,
        "blend": trial.blend,
        "curve": trial.curve,
    }
