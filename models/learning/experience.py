"""What earlier jobs on the same base tell of this one. Numbers only: nothing that a customer wrote is in them.

An outcome counts by how near its situation is to the one at hand. Nothing near: the expectations are the usual ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

# Of its errors, what share refinement has taken from a fitted head where it helped at all: little where frozen features
# tell the classes apart, much where they do not (60 questions in six classes: 47 %).
USUAL_RELIEF, UNLIKE_RELIEF = 0.08, 0.25
HEAD = "head"

# Share of the way from chance to perfection that frozen features go, from which the base knows the domain.
SIMILAR = 0.7
# The usual expectation counts like so many jobs in the very same situation.
_USUAL_MASS = 1.0
# From here on the mean of what earlier jobs saw is worth more than another look on a few hundred rows: two jobs. No two
# situations are the same to the last digit, so 2 would ask for three.
_KNOWN_MASS = 1.5
# How far the expectation of a candidate that is not known yet may be off.
_UNKNOWN_RELIEF = 0.04
# Differences at which a situation counts for 0.6: a factor of e in rows, 0.2 in shares.
_ROWS_SCALE, _SHARE_SCALE = 1.0, 0.2


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known of a job before anything is refined, in numbers that compare across jobs.

    None and (): not measured yet.
    """

    rows: int
    classes: int
    rows_per_class: float
    separability: float | None = None
    head_score: float | None = None
    depth_scores: tuple[float, ...] = ()  # by depth

    def nearness(self, other: Circumstances) -> float:
        """1: the same situation; 0: another world."""
        apart = (
            math.log(max(self.rows, 1) / max(other.rows, 1)) / _ROWS_SCALE,
            math.log(max(self.rows_per_class, 1) / max(other.rows_per_class, 1)) / _ROWS_SCALE,
            _apart(self.separability, other.separability) / _SHARE_SCALE,
            _apart(self.head_score, other.head_score) / _SHARE_SCALE,
            self._depth_distance(other) / _SHARE_SCALE,
        )
        return math.exp(-0.5 * sum(value * value for value in apart))

    def _depth_distance(self, other: Circumstances) -> float:
        if len(self.depth_scores) != len(other.depth_scores) or not self.depth_scores:
            return 0.0
        pairs = zip(self.depth_scores, other.depth_scores, strict=True)
        return sum(abs(mine - theirs) for mine, theirs in pairs) / len(self.depth_scores)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one candidate did in one job. `head` is in every job, and carries what was chosen for it."""

    base_revision: str
    task: str
    rows: int
    classes: int
    rows_per_class: float
    separability: float
    head_score: float
    depth_scores: tuple[float, ...]
    candidate: str
    relief: float = 0.0  # share of the head's errors that it took away; negative: it made more
    probability: float = 0.5  # of being better than the head
    epochs: int = 0  # at its best moment; 0: it left before it was tried in full
    blend: float = 1.0
    seconds_per_row_epoch: float = 0.0
    features: str = ""  # of the head; "": the customer named them
    regularization: float = 0.0  # 0: the customer named it
    label_names: bool = False

    @property
    def circumstances(self) -> Circumstances:
        """Where it was."""
        return Circumstances(**{each.name: getattr(self, each.name) for each in fields(Circumstances)})

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Outcome:
        """Read what `dataclasses.asdict` wrote, be it through JSON, and be it by a version with more fields."""
        known = {each.name for each in fields(cls)} & values.keys()
        return cls(**{**{name: values[name] for name in known}, "depth_scores": tuple(values["depth_scores"])})


@dataclass(frozen=True, slots=True)
class Outlook:
    """Earlier outcomes, seen from the circumstances at hand."""

    near: tuple[tuple[float, Outcome], ...] = ()  # nearness, outcome
    usual_relief: float = USUAL_RELIEF  # what to expect where nothing is near

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], here: Circumstances, *, base_revision: str, task: str) -> Outlook:
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


def _apart(mine: float | None, theirs: float | None) -> float:
    return 0.0 if mine is None or theirs is None else mine - theirs
