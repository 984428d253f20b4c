"""Rows of tokens laid end to end: where each row lies, pooling, and parts of a batch.

On a processor a batch is padded to a multiple of its grain. oneDNN compiles a kernel for every size of a product and
keeps the 1,024 last used: with four kinds of linear layers and every number of tokens from 5 to 320, kernels were
compiled anew in every other pass, a millisecond each and more.

Shapes: N tokens of B rows in one batch, those of the padding last; D the width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from models.backbones import feature_names
from models.backbones.segments import Segments, lay_out

# A large batch is padded to a multiple of this, a small one of its grain.
_LARGE_TOKENS, _LARGE_GRAIN = 512, 64


@dataclass(frozen=True, slots=True)
class Run:
    """Rows of one length, next to each other."""

    offset: int  # of its first token
    row: int  # its first row, in packed order
    rows: int
    length: int

    @property
    def end(self) -> int:
        """Place behind its last token."""
        return self.offset + self.rows * self.length


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Rows sorted by length, end to end. `order[i]` is the caller's index of packed row i.

    Tokens behind the last row are padding: their numbers reach no row.
    """

    ids_N: Tensor
    positions_N: Tensor
    types_N: Tensor | None  # 1 in the second text of a pair, None if there are only single texts
    runs: tuple[Run, ...]
    order: tuple[int, ...]
    lengths: tuple[int, ...]  # of the packed rows
    offsets: tuple[int, ...]  # of the packed rows' first tokens
    grain: int = 1  # what the number of tokens is a multiple of
    segments: Segments | None = None  # None on a processor

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.order)

    @property
    def tokens(self) -> int:
        """Number of tokens, padding included."""
        return int(self.ids_N.shape[0])

    @property
    def device(self) -> torch.device:
        """The device on which the tokens are."""
        return self.ids_N.device

    @property
    def used(self) -> int:
        """Number of tokens that belong to rows."""
        return self.runs[-1].end

    def span(self, row: int) -> range:
        """Return the tokens of a packed row."""
        return range(self.offsets[row], self.offsets[row] + self.lengths[row])


def pack(
    rows: Sequence[NDArray[np.int32]],
    *,
    separator: int | None = None,
    device: torch.device | str = "cpu",
    grain: int = 1,
) -> PackedBatch:
    """Lay rows of token ids end to end, shortest first. `separator` ends a text: with it, pairs get their types."""
    device = torch.device(device)
    lengths_B = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
    order_B = np.argsort(lengths_B, kind="stable")
    lengths_B = lengths_B[order_B]
    ids_N = _pad(np.concatenate([rows[index] for index in order_B]), grain)
    offsets_B = np.cumsum(lengths_B) - lengths_B
    positions_N = _pad(np.arange(lengths_B.sum()) - np.repeat(offsets_B, lengths_B), grain)
    ids, positions, segments = _place(ids_N, positions_N, lengths_B, order_B, device)
    return PackedBatch(
        ids_N=ids,
        positions_N=positions,
        types_N=None if separator is None else _types(ids_N, separator, offsets_B, lengths_B, device),
        runs=_runs(lengths_B.tolist()),
        order=tuple(order_B.tolist()),
        lengths=tuple(lengths_B.tolist()),
        offsets=tuple(offsets_B.tolist()),
        grain=grain,
        segments=segments,
    )


def pool(hidden_ND: Tensor, batch: PackedBatch, kind: str) -> Tensor:
    """Return mean, max or first token of each row, (B, D) float32 in the caller's order, as `encoder.pool` does."""
    unit, pooling = feature_names.split_unit(kind)
    if unit:
        return F.normalize(pool(hidden_ND, batch, pooling), dim=1)
    if batch.segments is not None:
        return batch.segments.pool(hidden_ND, kind)
    pooled_BD = torch.empty(batch.rows, hidden_ND.shape[1], dtype=torch.float32, device=hidden_ND.device)
    for run in batch.runs:
        tokens_BTD = hidden_ND[run.offset : run.end].view(run.rows, run.length, -1)
        target_BD = pooled_BD[run.row : run.row + run.rows]
        if kind == "mean":
            torch.mean(tokens_BTD, dim=1, dtype=torch.float32, out=target_BD)
        elif kind == "max":
            target_BD.copy_(tokens_BTD.amax(dim=1))
        elif kind == "cls":
            target_BD.copy_(tokens_BTD[:, 0])
        else:
            raise ValueError(f"unknown pooling: {kind}")
    result_BD = torch.empty_like(pooled_BD)
    result_BD[list(batch.order)] = pooled_BD
    return result_BD


def select(hidden_ND: Tensor, batch: PackedBatch, packed_rows: Sequence[int]) -> tuple[Tensor, PackedBatch]:
    """Return a part of a batch: these packed rows, ascending. The part's `order` counts within `packed_rows`."""
    lengths = [batch.lengths[row] for row in packed_rows]
    offsets = np.cumsum([0, *lengths])[:-1]
    kept_N = np.concatenate([np.arange(batch.offsets[row], batch.span(row).stop) for row in packed_rows])
    kept_N = _pad(kept_N, batch.grain)
    index_N, _, segments = _place(kept_N, kept_N, np.array(lengths), np.arange(len(lengths)), hidden_ND.device)
    return hidden_ND[index_N], PackedBatch(
        ids_N=batch.ids_N[index_N],
        positions_N=batch.positions_N[index_N],
        types_N=None if batch.types_N is None else batch.types_N[index_N],
        runs=_runs(lengths),
        order=tuple(range(len(packed_rows))),
        lengths=tuple(lengths),
        offsets=tuple(offsets.tolist()),
        grain=batch.grain,
        segments=segments,
    )


def _pad(column_N: NDArray[Any], grain: int) -> NDArray[Any]:
    """Return the column with zeros behind it, up to a multiple of the grain."""
    grain = max(grain, _LARGE_GRAIN) if grain > 1 and len(column_N) > _LARGE_TOKENS else grain
    missing = -len(column_N) % grain
    return np.concatenate([column_N, np.zeros(missing, dtype=column_N.dtype)]) if missing else column_N


def _place(
    first_N: NDArray[Any], second_N: NDArray[Any], lengths_B: NDArray[Any], order_B: NDArray[Any], device: torch.device
) -> tuple[Tensor, Tensor, Segments | None]:
    """Return two columns of tokens on the device, and for a GPU the rows' segments."""
    if device.type == "cpu":
        return torch.from_numpy(first_N), torch.from_numpy(second_N), None
    (first, second), segments = lay_out((first_N, second_N), lengths_B, order_B, device)
    return first, second, segments


def _runs(lengths: Sequence[int]) -> tuple[Run, ...]:
    runs: list[Run] = []
    offset = row = 0
    while row < len(lengths):
        end = row
        while end < len(lengths) and lengths[end] == lengths[row]:
            end += 1
        runs.append(Run(offset, row, end - row, lengths[row]))
        offset, row = runs[-1].end, end
    return tuple(runs)


def _types(
    ids_N: NDArray[np.int32],
    separator: int,
    offsets_B: NDArray[np.int64],
    lengths_B: NDArray[np.int64],
    device: torch.device | str,
) -> Tensor | None:
    """Return the segment of each token: 1 behind a row's first separator. None if no row has a second one."""
    is_separator_N = ids_N[: lengths_B.sum()] == separator
    before_N = np.cumsum(is_separator_N) - is_separator_N  # separators before each token, over the whole batch
    types_N = (before_N - np.repeat(before_N[offsets_B], lengths_B)) >= 1
    if not types_N.any():
        return None
    return torch.from_numpy(np.pad(types_N, (0, len(ids_N) - len(types_N)))).to(device)
