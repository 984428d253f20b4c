"""Targets of rows that have several each: one per word. Everywhere else a row is a row, and has one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Ragged:
    """N rows of different lengths end to end: row n is `values[starts[n] : starts[n + 1]]`."""

    values: Array  # (U, …)
    starts: Ints  # (N + 1,)

    @classmethod
    def of(cls, values: Array, counts_N: Ints) -> Ragged:
        """From the length of each row."""
        return cls(values, np.concatenate([[0], np.cumsum(counts_N)]).astype(np.int64))

    @property
    def counts(self) -> Ints:
        """The length of each row, (N,)."""
        return np.diff(self.starts)

    @property
    def owners(self) -> Ints:
        """The row of each unit, (U,)."""
        return np.repeat(np.arange(len(self)), self.counts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, rows: Ints) -> Ragged:
        """Some rows, in this order."""
        return Ragged.of(self.values[self.units(rows)], self.counts[rows])

    def units(self, rows: Ints) -> Ints:
        """Where the units of some rows are."""
        counts = self.counts[rows]
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(self.starts[:-1][rows], counts) + within


def flat(targets: Array | Ragged) -> Array:
    """One target per unit."""
    return targets.values if isinstance(targets, Ragged) else targets


def units(targets: Array | Ragged, rows: Ints) -> Ints:
    """Where the units of some rows are: the rows themselves, if each is one."""
    return targets.units(rows) if isinstance(targets, Ragged) else rows


def spread(values_N: Array, targets: Array | Ragged) -> Array:
    """A value per row → one per unit."""
    return np.repeat(values_N, targets.counts, axis=0) if isinstance(targets, Ragged) else values_N


def join(parts: Sequence[Array | Ragged]) -> Any:
    """Rows below rows."""
    values = np.concatenate([flat(part) for part in parts])
    ragged = [part for part in parts if isinstance(part, Ragged)]
    return Ragged.of(values, np.concatenate([part.counts for part in ragged])) if ragged else values
