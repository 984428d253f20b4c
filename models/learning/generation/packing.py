"""Rows packed end to end, what they all begin with computed once: a system message, the examples of a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from models.learning.generation.rows import TokenRow


@dataclass(frozen=True, eq=False)
class PackedRows:
    """B rows: P tokens that all begin with, then the rest of each, N tokens in all. M of them are to be foretold."""

    tokens_N: Tensor
    positions_N: Tensor
    prefix: int
    lengths_B: tuple[int, ...]  # without the prefix
    before_M: Tensor  # place of the token before each one that is to be foretold
    targets_M: Tensor
    rows_M: Tensor  # whose it is

    def attend(self, block: int, query_NHd: Tensor, key_NGd: Tensor, value_NGd: Tensor) -> Tensor:  # noqa: ARG002
        """Return the causal attention inside each row, (N, H, d); every row sees the prefix."""
        start, grouped = self.prefix, query_NHd.shape[1] != key_NGd.shape[1]
        query_HNd, key_GNd, value_GNd = (part.transpose(0, 1) for part in (query_NHd, key_NGd, value_NGd))
        pieces = []
        if start:
            query, key, value = (part[None, :, :start] for part in (query_HNd, key_GNd, value_GNd))
            found = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=grouped)
            pieces.append(found[0])
        for length, mask in zip(self.lengths_B, self._masks, strict=True):
            place = slice(start, start + length)
            query = query_HNd[None, :, place]
            if mask is None:
                key, value = key_GNd[None, :, place], value_GNd[None, :, place]
                found = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=grouped)
            else:
                key, value = (
                    torch.cat([part[:, : self.prefix], part[:, place]], dim=1)[None] for part in (key_GNd, value_GNd)
                )
                found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=grouped)
            pieces.append(found[0])
            start += length
        return torch.cat(pieces, dim=1).transpose(0, 1)

    @cached_property
    def _masks(self) -> list[Tensor | None]:
        """Return which keys each query of a row sees: the prefix, and its own row up to itself."""
        if not self.prefix:
            return [None] * len(self.lengths_B)
        device = self.tokens_N.device
        made: dict[int, Tensor] = {}
        for length in set(self.lengths_B):
            own = torch.ones(length, length, dtype=torch.bool, device=device).tril()
            made[length] = torch.cat([own.new_ones(length, self.prefix), own], dim=1)
        return [made[length] for length in self.lengths_B]


def pack(rows: Sequence[TokenRow], prefix: int, device: torch.device) -> PackedRows:
    """Return rows of which all begin with the same `prefix` tokens."""
    tokens = [rows[0].tokens_T[:prefix], *(row.tokens_T[prefix:] for row in rows)]
    lengths = [len(row) - prefix for row in rows]
    positions = [np.arange(prefix), *(np.arange(prefix, len(row)) for row in rows)]
    before, targets, owners = [], [], []
    offset = prefix
    for at, row in enumerate(rows):
        places = np.flatnonzero(row.learned_T[prefix:]) + prefix
        places = places[places > 0]
        # The token before the first one behind the prefix is the prefix's last.
        before.append(np.where(places == prefix, prefix - 1, places - 1 - prefix + offset))
        targets.append(row.tokens_T[places])
        owners.append(np.full(len(places), at))
        offset += lengths[at]

    def place(arrays: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.concatenate(arrays).astype(np.int64)).to(device)

    return PackedRows(
        place(tokens), place(positions), prefix, tuple(lengths), place(before), place(targets), place(owners)
    )


def batches(rows: Sequence[TokenRow], prefix: int, tokens: int) -> list[list[int]]:
    """Return the rows' indices in batches of so many tokens at most, short rows first; a longer row is alone."""
    order = sorted(range(len(rows)), key=lambda at: len(rows[at]))
    found: list[list[int]] = []
    held = 0
    for at in order:
        length = len(rows[at]) - prefix
        if not found or held + length > tokens:
            found.append([])
            held = prefix
        found[-1].append(at)
        held += length
    return found
