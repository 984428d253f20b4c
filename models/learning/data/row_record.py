"""Which rows a version was trained on, beside its artifact: hashes, no text. Later runs compare themselves with it.

A row that the version answered while it was held out (out of fold) carries what that answer adds to the metric. So two
versions that were trained on the same rows can be compared on them, each by answers of models that had not seen them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from models import disk
from models.learning.data.corpus import Corpus

Keys = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class RowRecord:
    """N rows that a version was trained on, and its held-out answers on them."""

    input_keys_N: Keys  # equal for inputs that are the same, case and spaces aside
    row_keys_N: Keys  # of input and target
    parts_NJ: NDArray[np.float32]  # see `Tally`; NaN where the row was not held out

    def contains(self, input_keys_M: Keys) -> NDArray[np.bool_]:
        """Return which inputs the version was trained on, (M,)."""
        trained_M: NDArray[np.bool_] = np.isin(input_keys_M, self.input_keys_N)
        return trained_M

    def without_answers(self) -> RowRecord:
        """Return the record of the same rows as if none had been held out."""
        return RowRecord(self.input_keys_N, self.row_keys_N, np.full_like(self.parts_NJ, np.nan))

    def answers(self, row_keys_M: Keys) -> NDArray[np.float32]:
        """Return what the version's held-out answers on such rows add to the metric, (M, J); NaN where it has none."""
        found_MJ = np.full((len(row_keys_M), self.parts_NJ.shape[1]), np.nan, dtype=np.float32)
        held = np.flatnonzero(~np.isnan(self.parts_NJ).any(1))
        if len(held):
            keys = self.row_keys_N[held]
            order = np.argsort(keys, kind="stable")
            at = np.minimum(np.searchsorted(keys[order], row_keys_M), len(held) - 1)
            same_M = keys[order][at] == row_keys_M
            found_MJ[same_M] = self.parts_NJ[held[order[at[same_M]]]]
        return found_MJ


def record(corpora: list[Corpus], held_rows: NDArray[np.int64], parts_HJ: NDArray[np.float64]) -> RowRecord:
    """Return the record of a version that was trained on some corpora, and held `held_rows` of the first one out."""
    input_keys_N = np.concatenate([corpus.input_keys_N for corpus in corpora])
    parts_NJ = np.full((len(input_keys_N), parts_HJ.shape[1]), np.nan, dtype=np.float32)
    parts_NJ[held_rows] = parts_HJ
    return RowRecord(input_keys_N, np.concatenate([corpus.row_keys_N for corpus in corpora]), parts_NJ)


def write(found: RowRecord, path: Path) -> None:
    """Write a record; the same record gives the same bytes."""
    with disk.writing_tensors():
        save_file({"inputs": found.input_keys_N, "rows": found.row_keys_N, "parts": found.parts_NJ}, path)


def read(path: Path) -> RowRecord | None:
    """Read what `write` wrote; None for a version that has none, or a damaged one."""
    try:
        arrays = load_file(path)
        found = RowRecord(arrays["inputs"], arrays["rows"], arrays["parts"])
    except (OSError, SafetensorError, KeyError):
        return None
    return found if len(found.input_keys_N) == len(found.row_keys_N) == len(found.parts_NJ) else None
