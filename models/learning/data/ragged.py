"""Arrays of rows with several targets each (one per word), and functions that also take arrays with one per row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Ragged:
    """N rows of different lengths end to end: row n is `values[starts[n] : starts[n + 1]]`."""

    values: Array  # (U, …)
    starts: Ints  # (N + 1,)
    unread_NL: Ints | None = None  # targets by label of each row that no unit stands for; None: there are none
    inexact_U: Bools | None = None  # units that stand for a target about, so that no answer is quite it; None: none

    @classmethod
    def of(cls, values: Array, counts_N: Ints, unread_NL: Ints | None = None, inexact_U: Bools | None = None) -> Ragged:
        """Return rows of the lengths `counts_N`, cut from values that lie end to end."""
        return cls(values, np.concatenate([[0], np.cumsum(counts_N)]).astype(np.int64), unread_NL, inexact_U)

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
        """Return some rows, in this order."""
        units_V = self.units(rows)
        unread_NL = None if self.unread_NL is None else self.unread_NL[rows]
        inexact_V = None if self.inexact_U is None else self.inexact_U[units_V]
        return Ragged.of(self.values[units_V], self.counts[rows], unread_NL, inexact_V)

    def units(self, rows: Ints) -> Ints:
        """Return the indices of the units of some rows."""
        counts = self.counts[rows]
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(self.starts[:-1][rows], counts) + within


def flat(targets: Array | Ragged) -> Array:
    """Return one target per unit, all rows end to end."""
    return targets.values if isinstance(targets, Ragged) else targets


def units(targets: Array | Ragged, rows: Ints) -> Ints:
    """Return the indices of the units of some rows: the rows themselves, if each is one."""
    return targets.units(rows) if isinstance(targets, Ragged) else rows


def spread(values_N: Array, targets: Array | Ragged) -> Array:
    """Return one value per unit from one per row."""
    return np.repeat(values_N, targets.counts, axis=0) if isinstance(targets, Ragged) else values_N


def join(parts: Sequence[Array | Ragged]) -> Any:
    """Return all rows, one part after the other."""
    values = np.concatenate([flat(part) for part in parts])
    ragged = [part for part in parts if isinstance(part, Ragged)]
    if not ragged:
        return values
    counts_N = np.concatenate([part.counts for part in ragged])
    return Ragged.of(values, counts_N, _join_unread(ragged), _join_inexact(ragged))


def _join_unread(parts: Sequence[Ragged]) -> Ints | None:
    labels = max((part.unread_NL.shape[1] for part in parts if part.unread_NL is not None), default=0)
    if not labels:
        return None
    padded = [np.zeros((len(part), labels), dtype=np.int64) for part in parts]
    for counts_NL, part in zip(padded, parts, strict=True):
        if part.unread_NL is not None:
            counts_NL[:, : part.unread_NL.shape[1]] = part.unread_NL
    return np.concatenate(padded)


def _join_inexact(parts: Sequence[Ragged]) -> Bools | None:
    if all(part.inexact_U is None for part in parts):
        return None
    return np.concatenate(
        [np.zeros(len(part.values), dtype=np.bool_) if part.inexact_U is None else part.inexact_U for part in parts]
    )
