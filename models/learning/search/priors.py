"""Priors of a job: the outcomes of earlier jobs on the same base.

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
    """Earlier outcomes, each with its nearness to the circumstances at hand."""

    near: tuple[tuple[float, Outcome], ...] = ()  # nearness, outcome
    default_error_reduction: float = policy.DEFAULT_ERROR_REDUCTION

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], here: Circumstances, *, base_revision: str, task: str) -> Prior:
        """Build it from the outcomes of this base and task; the others do not count."""
        same = [each for each in outcomes if (each.base_revision, each.task) == (base_revision, task)]
        return cls(
            tuple((here.nearness(each.circumstances), each) for each in same),
            policy.default_error_reduction(here.separability),
        )

    def jobs(self, candidate: str = HEAD) -> float:
        """Return how many jobs in this situation tried the candidate, far ones counting less; the head is in each."""
        return sum(nearness for nearness, outcome in self.near if outcome.candidate == candidate)

    def is_known(self, candidate: str) -> bool:
        """Return whether the candidate was tried often enough to skip the race."""
        return policy.is_known(self.jobs(candidate))

    def error_reduction(self, candidate: str) -> float:
        """Return the share of the head's errors that the candidate is expected to take away."""
        observed = [(nearness, each.error_reduction) for nearness, each in self.near if each.candidate == candidate]
        return policy.expected_error_reduction(observed, self.default_error_reduction)

    def expected(self, candidates: Sequence[str]) -> dict[str, float]:
        """Return the error reduction of each; those that earlier jobs tried in full come first: others lost to them."""
        tried = {
            name: sum(near for near, each in self.near if each.candidate == name and each.epochs) for name in candidates
        }
        return {name: self.error_reduction(name) for name in sorted(candidates, key=lambda name: -tried[name])}

    def epochs(self, candidate: str, default: int) -> int:
        """Return as many epochs as served earlier jobs, where they are known."""
        observed = [
            (nearness, each.epochs) for nearness, each in self.near if each.candidate == candidate and each.epochs
        ]
        return policy.choose_epochs(observed, default)

    def seconds_per_row_epoch(self, candidate: str) -> float | None:
        """Return the mean cost of a row in an epoch of the candidate; None if no job measured it."""
        observed = [each for _, each in self.near if each.candidate == candidate and each.seconds_per_row_epoch > 0]
        return sum(each.seconds_per_row_epoch for each in observed) / len(observed) if observed else None

    def features(self) -> str | None:
        """Return the features that most heads ended with; None where too little is known."""
        votes: dict[str, float] = {}
        for nearness, each in self.near:
            if each.candidate == HEAD and each.features:
                votes[each.features] = votes.get(each.features, 0.0) + nearness
        return max(votes, key=lambda name: votes[name]) if policy.is_known(sum(votes.values())) else None

    def regularization(self) -> float | None:
        """Return the geometric mean of what heads ended with; None where too little is known."""
        observed = [
            (nearness, math.log(each.regularization))
            for nearness, each in self.near
            if each.candidate == HEAD and each.regularization > 0
        ]
        jobs = sum(nearness for nearness, _ in observed)
        return math.exp(sum(nearness * value for nearness, value in observed) / jobs) if policy.is_known(jobs) else None
