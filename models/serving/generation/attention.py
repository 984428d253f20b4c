"""Attention of one pass: new tokens of many sequences to the kept keys and values, of each sequence its own.

One call per sequence and layer: its numbers depend on nothing else in the pass. On a processor one padded call for all
is no faster: 16 sequences of 256 tokens took 0.6 ms a layer in fp32; padded and masked 0.5, and 0.16 for the copy, and
as long as the longest where lengths are uneven.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from models.backbones.decoder import Attend
from models.serving.generation.memory import KeyValueMemory, Place


@dataclass(frozen=True, slots=True)
class NewTokens:
    """Tokens of one sequence that a pass computes: `rows` of the pass, which follow `start` others."""

    rows: slice
    start: int
    blocks: Sequence[int]

    @property
    def stop(self) -> int:
        """Number of the sequence's tokens once these are stored."""
        return self.start + int(self.rows.stop - self.rows.start)


@dataclass(frozen=True, slots=True)
class _Piece:
    rows: slice
    stop: int
    place: Place
    mask: Tensor | None  # (R n, T), which of the T tokens each of n sees; None: all of them


@dataclass(frozen=True, slots=True)
class _Next:
    """The next token of a sequence whose tokens are neighbours: what most pieces of most passes are."""

    row: int
    begin: int  # where the sequence's first token lies
    stop: int


def attend_to(memory: KeyValueMemory, tokens: Sequence[NewTokens], *, ratio: int, device: torch.device) -> Attend:
    """Return the attention of a pass; `ratio` is how many heads of queries share one of keys."""
    slots_N = torch.from_numpy(
        np.concatenate([memory.slots(new.blocks, new.start, new.stop) for new in tokens]).astype(np.int64)
    ).to(device)
    used = len(slots_N)  # rows behind these are padding
    pieces: list[_Piece] = []
    following: list[_Next] = []
    for new in tokens:
        place = memory.place(new.blocks, new.stop)
        if new.stop - new.start == 1 and isinstance(place, slice):
            following.append(_Next(new.rows.start, place.start, new.stop))
        else:
            pieces.append(_Piece(new.rows, new.stop, place, _mask(new, ratio, device)))
    rows_S = torch.tensor([each.row for each in following], device=device)

    def attend(layer: int, query_NHd: Tensor, key_NGd: Tensor, value_NGd: Tensor) -> Tensor:
        memory.write(layer, slots_N, key_NGd[:used], value_NGd[:used])
        # Heads that share keys side by side, as further queries: (N, H, d) → (N, G, R, d).
        rows, heads, width = query_NHd.shape
        query_NGRd = query_NHd.reshape(rows, heads // ratio, ratio, width)
        attended_NGRd = torch.zeros_like(query_NGRd)
        if following:
            attended_NGRd.index_copy_(0, rows_S, _attend_next(memory, layer, following, query_NGRd))
        for piece in pieces:
            key_TGd, value_TGd = memory.read(layer, piece.place, piece.stop)
            mine_GQd = query_NGRd[piece.rows].permute(1, 2, 0, 3).flatten(1, 2)
            found_GQd = F.scaled_dot_product_attention(
                mine_GQd[None], key_TGd.transpose(0, 1)[None], value_TGd.transpose(0, 1)[None], attn_mask=piece.mask
            )[0]
            attended_NGRd[piece.rows] = found_GQd.reshape(heads // ratio, ratio, -1, width).permute(2, 0, 1, 3)
        return attended_NGRd.flatten(1, 2)

    return attend


def _attend_next(memory: KeyValueMemory, layer: int, following: Sequence[_Next], query_NGRd: Tensor) -> Tensor:
    """Return what next tokens attend to, (S, G, R, d).

    Three operators for each; of the general way's fifteen, one computes.
    """
    keys_1GTd, values_1GTd = memory.whole(layer)
    query_by_row = torch.split(query_NGRd, 1)
    return torch.cat(
        [
            F.scaled_dot_product_attention(
                query_by_row[each.row],
                keys_1GTd.narrow(2, each.begin, each.stop),
                values_1GTd.narrow(2, each.begin, each.stop),
            )
            for each in following
        ]
    )


def _mask(new: NewTokens, ratio: int, device: torch.device) -> Tensor | None:
    count = new.stop - new.start
    if count == 1:
        return None
    seen_nT = torch.arange(new.stop, device=device) <= torch.arange(new.start, new.stop, device=device)[:, None]
    return seen_nT.repeat(ratio, 1)
