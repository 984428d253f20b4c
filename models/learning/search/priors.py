"""What earlier jobs on the same base say about this one.

An outcome counts by how near its situation is to the one at hand. Nothing near: the expectations are the defaults. How
much they count is decided in `policy`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from models.learning.contract.outcomes import HEAD, Circumstances, Outcome
from models.learning.search import policy


@dataclass(frozen=True, slots=True)
class Prior:
    """Earlier outcomes, seen from the circumstances at hand."""

    near: tuple[tuple[float, Outcome], ...] = ()  # nearness, outcome
    default_error_reduction: float = policy.DEFAULT_ERROR_REDUCTION

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], here: Circumstances, *, base_revision: str, task: str) -> Prior:
        """The outcomes of this base and task; the others say nothing."""
        same = [each for each in outcomes if (each.base_revision, each.task) == (base_revision, task)]
        return cls(
            tuple((here.nearness(each.circumstances), each) for each in same),
            policy.default_error_reduction(here.separability),
        )

    def jobs(self, candidate: str = HEAD) -> float:
        """How many earlier jobs in this situation saw the candidate, far ones counting less; the head is in each."""
        return sum(nearness for nearness, outcome in self.near if outcome.candidate == candidate)

    def knows(self, candidate: str) -> bool:
        """Whether it was seen often enough to do without another look."""
        return policy.is_known(self.jobs(candidate))

    def error_reduction(self, candidate: str) -> float:
        """The share of the head's errors that it is expected to take away."""
        seen = [(nearness, each.error_reduction) for nearness, each in self.near if each.candidate == candidate]
        return policy.expected_error_reduction(seen, self.default_error_reduction)

    def epochs(self, candidate: str, default: int) -> int:
        """As many as served earlier jobs, where they are known."""
        seen = [(nearness, each.epochs) for nearness, each in self.near if each.candidate == candidate and each.epochs]
        return policy.choose_epochs(seen, default)

    def seconds_per_row_epoch(self, candidate: str) -> float | None:
        """Mean cost of a row in an epoch of the candidate; None if no job says."""
        seen = [each for _, each in self.near if each.candidate == candidate and each.seconds_per_row_epoch > 0]
        return sum(each.seconds_per_row_epoch for each in seen) / len(seen) if seen else None

    def features(self) -> str | None:
        """The features that most heads ended with; None where too little is known."""
        votes: dict[str, float] = {}
        for nearness, each in self.near:
            if each.candidate == HEAD and each.features:
                votes[each.features] = votes.get(each.features, 0.0) + nearness
        return max(votes, key=lambda name: votes[name]) if policy.is_known(sum(votes.values())) else None

    def regularization(self) -> float | None:
        """The geometric mean of what heads ended with; None where too little is known."""
        seen = [
            (nearness, math.log(each.regularization))
            for nearness, each in self.near
            if each.candidate == HEAD and each.regularization > 0
        ]
        jobs = sum(nearness for nearness, _ in seen)
        return math.exp(sum(nearness * value for nearness, value in seen) / jobs) if policy.is_known(jobs) else None
