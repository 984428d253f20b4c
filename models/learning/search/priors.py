"""What earlier jobs on the same base say about this one.

An outcome counts by how near its situation is to the one at hand. Nothing near: the expectations are the defaults.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from models.learning.contract.outcomes import HEAD, Circumstances, Outcome

# Of its errors, what share refinement has taken from a fitted head where it helped at all: little where frozen features
# tell the classes apart, much where they do not (60 questions in six classes: 47 %).
USUAL_RELIEF, UNLIKE_RELIEF = 0.08, 0.25

# Share of the way from chance to perfection that frozen features go, from which the base knows the domain.
SIMILAR = 0.7
# The default expectation counts like so many jobs in the very same situation.
_USUAL_MASS = 1.0
# From here on the mean of what earlier jobs saw is worth more than another look on a few hundred rows: two jobs. No two
# situations are the same to the last digit, so 2 would ask for three.
_KNOWN_MASS = 1.5
# How far the expectation of a candidate that is not known yet may be off.
_UNKNOWN_RELIEF = 0.04


@dataclass(frozen=True, slots=True)
class Prior:
    """Earlier outcomes, seen from the circumstances at hand."""

    near: tuple[tuple[float, Outcome], ...] = ()  # nearness, outcome
    usual_relief: float = USUAL_RELIEF  # what to expect where nothing is near

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], here: Circumstances, *, base_revision: str, task: str) -> Prior:
        """Of this base and task; the others say nothing."""
        same = [each for each in outcomes if (each.base_revision, each.task) == (base_revision, task)]
        unlike = here.separability is not None and here.separability < SIMILAR
        return cls(
            tuple((here.nearness(each.circumstances), each) for each in same),
            UNLIKE_RELIEF if unlike else USUAL_RELIEF,
        )

    def jobs(self) -> float:
        """How many earlier jobs there were in this situation, far ones counting less."""
        return self.mass(HEAD)

    def mass(self, candidate: str) -> float:
        """How often the candidate was seen in this situation."""
        return sum(nearness for nearness, outcome in self.near if outcome.candidate == candidate)

    def knows(self, candidate: str) -> bool:
        """Whether it was seen often enough to do without another look."""
        return self.mass(candidate) >= _KNOWN_MASS

    def relief(self, candidate: str) -> float:
        """The share of the head's errors that it is expected to take away. What is worse is never published: 0."""
        seen = [(nearness, max(0.0, each.relief)) for nearness, each in self.near if each.candidate == candidate]
        total = _USUAL_MASS * self.usual_relief + sum(nearness * relief for nearness, relief in seen)
        return total / (_USUAL_MASS + sum(nearness for nearness, _ in seen))

    def most_relief(self, candidate: str) -> float:
        """What it may reach if it is better than expected."""
        return self.relief(candidate) + (0.0 if self.knows(candidate) else _UNKNOWN_RELIEF)

    def epochs(self, candidate: str, usual: int) -> int:
        """As many as served earlier jobs, where they are known; never less than most of the usual number."""
        if not self.knows(candidate):
            return usual
        seen = [
            (nearness, each.epochs) for nearness, each in self.near if each.candidate == candidate and each.epochs > 0
        ]
        if sum(nearness for nearness, _ in seen) < _KNOWN_MASS:
            return usual
        mean = sum(nearness * epochs for nearness, epochs in seen) / sum(nearness for nearness, _ in seen)
        return min(usual, max(math.ceil(mean), math.ceil(0.6 * usual)))

    def seconds_per_row_epoch(self, candidate: str) -> float | None:
        """What a row cost the candidate in an epoch; None if nobody knows."""
        seen = [each for _, each in self.near if each.candidate == candidate and each.seconds_per_row_epoch > 0]
        return sum(each.seconds_per_row_epoch for each in seen) / len(seen) if seen else None

    def usual_features(self) -> str | None:
        """The choice that most jobs ended with; None where too little is known."""
        votes: dict[str, float] = {}
        for nearness, each in self.near:
            if each.candidate == HEAD and each.features:
                votes[each.features] = votes.get(each.features, 0.0) + nearness
        if sum(votes.values()) < _KNOWN_MASS:
            return None
        return max(votes, key=lambda name: votes[name])

    def usual_regularization(self) -> float | None:
        """The geometric mean of what was chosen; None where too little is known."""
        seen = [
            (nearness, math.log(each.regularization))
            for nearness, each in self.near
            if each.candidate == HEAD and each.regularization > 0
        ]
        mass = sum(nearness for nearness, _ in seen)
        return math.exp(sum(nearness * value for nearness, value in seen) / mass) if mass >= _KNOWN_MASS else None
