"""What every row of the serving benchmark is given, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.public_data import Rows

# `value` is the figure of the table; what it was computed from lies beside it.
Found = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How large and how long. It crosses process boundaries."""

    folder: Path  # for everything that a row writes
    customers: int
    rounds: int  # of every arm; what counts is their median
    seconds: float  # of one arm in one round
    data: str  # where the texts come from
    train: Rows
    test: Rows

    @property
    def texts(self) -> list[str]:
        """What is asked."""
        return [text for text, _ in self.test]

    @property
    def home(self) -> Path:
        """The folder that `graft up --data` would be given."""
        return self.folder / "data"

    def few(self, most: int = 200) -> range:
        """Some of the customers, for rows that are not about how many there are."""
        return range(min(most, self.customers))
