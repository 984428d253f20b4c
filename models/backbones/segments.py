"""Packed rows on a GPU: attention and pooling of all rows at once, however many lengths there are.

A processor computes one run of equal length after the other (see `packed`); a GPU would spend its time on starting
kernels. Here every step is one kernel for the whole batch: flash attention over segments where the device has it (Dao
2023, arXiv:2307.08691), else attention over rows of like length, padded and masked.

Shapes: N tokens of B rows, shortest row first; D the width, E = 3 D, H heads, T the longest row of a bucket.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

Ints = NDArray[Any]

# A bucket's rows are no longer than this many times its shortest, or so many tokens more: padding stays below half.
_STRETCH, _SLACK = 2.0, 8


@dataclass(frozen=True, slots=True)
class Bucket:
    """Neighbouring rows of like length, padded to the longest of them."""

    index_BT: Tensor  # token of each place; places of the padding repeat the row's last one
    mask_B11T: Tensor | None  # True where there is a token; None: no padding
    tokens: slice
    places_N: Tensor | None  # where each token is among the B × T places; None: no padding


@dataclass(slots=True)
class Segments:
    """Places of the rows, in tensors on the device."""

    lengths_B: Tensor  # int32
    ends_S: Tensor  # int32; S = B + 1, begins with 0
    ranks_B: Tensor  # int32: where the caller's row b is in the batch
    lengths: Sequence[int]
    _buckets: list[Bucket] | None = field(default=None)

    def attend(self, qkv_NE: Tensor, heads: int) -> Tensor:
        """Return the softmax attention of each row over itself, (N, D)."""
        tokens, tripled = qkv_NE.shape
        qkv_N3Hd = qkv_NE.view(tokens, 3, heads, tripled // 3 // heads)
        if _has_flash(qkv_N3Hd):
            query, key, value = qkv_N3Hd.unbind(1)
            longest = self.lengths[-1]
            attended: Tensor = torch.ops.aten._flash_attention_forward(
                query, key, value, self.ends_S, self.ends_S, longest, longest, 0.0, False, False
            )[0]
            return attended.reshape(tokens, -1)
        return self._attend_padded(qkv_N3Hd)

    def pool(self, hidden_ND: Tensor, kind: str) -> Tensor:
        """Return `mean`, `max` or first token (`cls`) of each row, (B, D) float32 in the caller's order."""
        if kind == "cls":
            pooled_BD = hidden_ND.index_select(0, self.ends_S[:-1]).float()
        elif kind in ("mean", "max"):
            pooled_BD = torch.segment_reduce(hidden_ND.float(), kind, lengths=self.lengths_B, unsafe=True)
        else:
            raise ValueError(f"unknown pooling: {kind}")
        return pooled_BD.index_select(0, self.ranks_B)

    def _attend_padded(self, qkv_N3Hd: Tensor) -> Tensor:
        tokens, _, heads, width = qkv_N3Hd.shape
        context_ND = torch.empty(tokens, heads * width, dtype=qkv_N3Hd.dtype, device=qkv_N3Hd.device)
        if self._buckets is None:
            self._buckets = _bucket(self.lengths, qkv_N3Hd.device)
        for bucket in self._buckets:
            query, key, value = qkv_N3Hd[bucket.index_BT].permute(2, 0, 3, 1, 4)
            attended_BHTd = F.scaled_dot_product_attention(query, key, value, attn_mask=bucket.mask_B11T)
            padded_PD = attended_BHTd.transpose(1, 2).reshape(-1, heads * width)
            context_ND[bucket.tokens] = padded_PD if bucket.places_N is None else padded_PD[bucket.places_N]
        return context_ND


def lay_out(
    columns: Sequence[Ints], lengths_B: Ints, order_B: Ints, device: torch.device
) -> tuple[list[Tensor], Segments]:
    """Return the columns (one number per token) on the device in int32, and the rows' segments, all in one copy.

    `order_B[i]` is the caller's index of packed row i.
    """
    ends_S = np.concatenate([[0], np.cumsum(lengths_B)])
    pieces = [*columns, lengths_B, ends_S, np.argsort(order_B)]
    together = torch.from_numpy(np.concatenate(pieces).astype(np.int32)).to(device)
    *placed, lengths, ends, ranks = torch.split(together, [len(piece) for piece in pieces])
    return placed, Segments(lengths, ends, ranks, lengths_B.tolist())


def _has_flash(qkv_N3Hd: Tensor) -> bool:
    return (
        qkv_N3Hd.device.type == "cuda"
        and qkv_N3Hd.dtype in (torch.bfloat16, torch.float16)
        and qkv_N3Hd.shape[-1] % 8 == 0
        and qkv_N3Hd.shape[-1] <= 256
        and torch.backends.cuda.is_flash_attention_available()
        and torch.cuda.get_device_capability(qkv_N3Hd.device)[0] >= 8
    )


def _bucket(lengths: Sequence[int], device: torch.device) -> list[Bucket]:
    buckets, start, offset = [], 0, 0
    while start < len(lengths):
        most = max(_STRETCH * lengths[start], lengths[start] + _SLACK)
        end = start
        while end < len(lengths) and lengths[end] <= most:
            end += 1
        theirs_B = np.array(lengths[start:end])
        tokens = slice(offset, offset + int(theirs_B.sum()))
        place_T = np.arange(theirs_B[-1])
        begins_B1 = (offset + np.cumsum(theirs_B) - theirs_B)[:, None]
        mask_BT = place_T < theirs_B[:, None]
        index_BT = begins_B1 + np.minimum(place_T, theirs_B[:, None] - 1)
        padded = not mask_BT.all()
        buckets.append(
            Bucket(
                index_BT=torch.from_numpy(index_BT).to(device),
                mask_B11T=torch.from_numpy(mask_BT[:, None, None]).to(device) if padded else None,
                tokens=tokens,
                places_N=torch.from_numpy(np.flatnonzero(mask_BT)).to(device) if padded else None,
            )
        )
        start, offset = end, tokens.stop
    return buckets
