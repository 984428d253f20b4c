"""A run's best version beside the version that is live: what goes in, and what comes out. Plain values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROWS_FILE = (
    "rows.safetensors"  # beside an artifact: which rows it was trained on, see `models.learning.data.row_record`
)
VERSION_FILES = ("manifest.json", "weights.safetensors", ROWS_FILE)


@dataclass(frozen=True, slots=True)
class LiveVersion:
    """The version that answers while a job runs: its number, and its artifact on the local disk."""

    number: int
    folder: Path


@dataclass(frozen=True, slots=True)
class LiveComparison:
    """The best version of a run and the live version on the same held-out rows.

    `problem` says why there is nothing to compare; the figures are 0 then.
    """

    live: int  # its number
    metric: str = ""
    rows: int = 0  # on which both were compared
    score: float = 0.0  # of the new version on them
    live_score: float = 0.0
    gain: float = 0.0  # of the new version, with the 95 % interval of the paired bootstrap
    low: float = 0.0
    high: float = 0.0
    probability: float = 0.5  # that the gain is above 0 when rows are drawn anew
    seen: bool = False  # the live version was, or may have been, trained on some: on those it looks better than it is
    labels_lost: tuple[str, ...] = ()  # what only the live version can say
    labels_added: tuple[str, ...] = ()  # what only the new version can say
    problem: str = ""
    broken: bool = False  # the live version cannot be read, so it cannot answer either

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LiveComparison:
        """Read what `dataclasses.asdict` wrote, be it through JSON."""
        labels = {name: tuple(values.get(name, ())) for name in ("labels_lost", "labels_added")}
        return cls(**{**values, **labels})
