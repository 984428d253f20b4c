"""Texts in several windows: one that is longer than the base reads is encoded in parts, side by side in a batch.

A text's mean is that of all its windows' tokens, its maximum that of all of them. Tokens that are pooled word by word
are taken from the window in which they have most text around them.

Shapes: P parts (windows) of B rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.backbones import feature_names

TokenIds = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class WindowRow:
    """A long text, tokenised: special tokens in every window."""

    windows: tuple[TokenIds, ...]
    cut: int = 0  # tokens behind the last window, which are not read

    def __len__(self) -> int:
        return sum(map(len, self.windows))


@dataclass(frozen=True, slots=True)
class Window:
    """The tokens `start` to `stop` of a text, and those among them that are pooled from here, not from a neighbour."""

    start: int
    stop: int
    own_start: int
    own_stop: int


@dataclass(frozen=True, slots=True)
class RowParts:
    """Rows whose parts lie one after the other: row b has `counts[b]` of them."""

    counts: tuple[int, ...]
    lengths: tuple[int, ...]  # of all parts, in tokens

    def join(self, pooled_PD: Tensor, pooling: str) -> Tensor:
        """Return (B, D) from the pooled vectors of all parts: the maximum, or the mean weighted by tokens."""
        device = pooled_PD.device
        counts_B = torch.tensor(self.counts, device=device)
        if pooling == "max":
            return torch.segment_reduce(pooled_PD, "max", lengths=counts_B)
        lengths_P = np.array(self.lengths, dtype=np.float64)
        rows_P = np.repeat(np.arange(len(self.counts)), self.counts)
        # A row of one part keeps its numbers to the last bit: its share is 1.
        shares_P = torch.from_numpy((lengths_P / np.bincount(rows_P, lengths_P)[rows_P]).astype(np.float32)).to(device)
        return torch.segment_reduce(pooled_PD * shares_P[:, None], "sum", lengths=counts_B)


def split(tokens: int, *, most: int, overlap: int = 0) -> list[Window]:
    """Divide a text of so many tokens into the fewest windows of at most `most`, all of about the same length."""
    count = max(1, -(-(tokens - overlap) // (most - overlap)))
    # Places of the windows' ends if none repeated anything of the one before.
    ends = [at * (tokens + (count - 1) * overlap) // count for at in range(count + 1)]
    found = []
    for at, (begin, end) in enumerate(pairwise(ends)):
        start, stop = begin - at * overlap, end - at * overlap
        # Half-way through what two windows share a token has equally much text around it in both.
        own_start = start + overlap - overlap // 2 if at else 0
        own_stop = stop - overlap // 2 if at < count - 1 else tokens
        found.append(Window(start, stop, own_start, own_stop))
    return found


def parts_of(row: Any) -> tuple[Any, ...]:
    """Return the windows of a row, or the row itself."""
    return row.windows if isinstance(row, WindowRow) else (row,)


def flatten(rows: Sequence[Any]) -> tuple[list[Any], RowParts | None]:
    """Return the parts of all rows one after the other; None in place of the layout if each row is one part."""
    if not any(isinstance(row, WindowRow) for row in rows):
        return list(rows), None
    parts = [parts_of(row) for row in rows]
    flat = [part for own in parts for part in own]
    return flat, RowParts(tuple(map(len, parts)), tuple(map(len, flat)))


def pool(pool_parts: Callable[[str], Tensor], kind: str, layout: RowParts | None) -> Tensor:
    """Return one vector per row, (B, D), from the function that pools all parts: it takes the kind without scaling."""
    unit, pooling = feature_names.split_unit(kind)
    pooled = pool_parts(pooling)
    if layout is not None:
        pooled = layout.join(pooled, pooling)
    return functional.normalize(pooled, dim=1) if unit else pooled
