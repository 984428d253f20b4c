"""Outcomes that one job leaves for later ones: numbers only. Nothing that a customer wrote is in them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

HEAD = "head"
# Fields of stored outcomes that have another name by now.
_FORMER_NAMES = {"relief": "error_reduction"}
# Differences at which an outcome counts for 0.6: a factor of e in rows, 0.2 in shares.
_ROWS_SCALE, _SHARE_SCALE = 1.0, 0.2


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Facts of a job before anything is refined, in numbers that compare across jobs.

    They are the part of a `search.situation.Situation` that is stored for later jobs, and the score of the head.
    None and (): not measured yet.
    """

    rows: int
    classes: int
    rows_per_class: float
    separability: float | None = None
    head_score: float | None = None
    depth_scores: tuple[float, ...] = ()  # by depth

    def nearness(self, other: Circumstances) -> float:
        """Return what one job's outcomes weigh for another: 1 in equal circumstances, near 0 in very different ones."""
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
    """The result of one candidate in one job. `head` is in every job, and carries what was chosen for it."""

    base_revision: str
    task: str
    rows: int
    classes: int
    rows_per_class: float
    separability: float
    head_score: float
    depth_scores: tuple[float, ...]
    candidate: str
    error_reduction: float = 0.0  # share of the head's errors that it took away; negative: it made more
    probability: float = 0.5  # of being better than the head
    epochs: int = 0  # at its best moment; 0: it left before it was tried in full
    blend: float = 1.0
    seconds_per_row_epoch: float = 0.0
    features: str = ""  # of the head; "": the customer named them
    regularization: float = 0.0  # 0: the customer named it
    label_names: bool = False
    # Of a probe: the base that `probability` and `error_reduction` are of; `base_revision` is its rival's.
    base: str = ""

    @property
    def circumstances(self) -> Circumstances:
        """The circumstances of the job that left it."""
        return Circumstances(**{each.name: getattr(self, each.name) for each in fields(Circumstances)})

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Outcome:
        """Read what `dataclasses.asdict` wrote, be it through JSON, and be it by a version with more fields."""
        values = {_FORMER_NAMES.get(name, name): value for name, value in values.items()}
        known = {each.name for each in fields(cls)} & values.keys()
        return cls(**{**{name: values[name] for name in known}, "depth_scores": tuple(values["depth_scores"])})


def _apart(mine: float | None, theirs: float | None) -> float:
    return 0.0 if mine is None or theirs is None else mine - theirs
