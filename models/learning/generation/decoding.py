"""Greedy answers to some held-out rows, for the report: a small batch at a time. Serving has an engine of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from models.learning.contract.errors import Stopped
from models.learning.generation.network import WritingNetwork
from models.learning.generation.packing import PackedRows, pack
from models.learning.generation.rows import TokenRow, shared_prefix


class _Kept:
    """Keys and values of B rows, block by block, with room for what is written."""

    def __init__(self, packed: PackedRows, room: int) -> None:
        self._packed = packed
        self._room = room
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self.lengths_B = torch.tensor([packed.prefix + length for length in packed.lengths_B])

    def read(self, block: int, query_NHd: Tensor, key_NGd: Tensor, value_NGd: Tensor) -> Tensor:
        """Attend inside the prompts, and keep what was seen."""
        self._keys.append(self._laid_out(key_NGd))
        self._values.append(self._laid_out(value_NGd))
        return self._packed.attend(block, query_NHd, key_NGd, value_NGd)

    def write(self, block: int, query_BHd: Tensor, key_BGd: Tensor, value_BGd: Tensor) -> Tensor:
        """Attend from one new token of each row."""
        key_BTGd, value_BTGd = self._keys[block], self._values[block]
        rows_B = torch.arange(len(query_BHd))
        key_BTGd[rows_B, self.lengths_B], value_BTGd[rows_B, self.lengths_B] = key_BGd, value_BGd
        most = int(self.lengths_B.max()) + 1
        seen_BT = torch.arange(most)[None] <= self.lengths_B[:, None]
        found_BH1d = F.scaled_dot_product_attention(
            query_BHd[:, :, None],
            key_BTGd[:, :most].transpose(1, 2),
            value_BTGd[:, :most].transpose(1, 2),
            attn_mask=seen_BT[:, None, None].to(query_BHd.device),
            enable_gqa=query_BHd.shape[1] != key_BGd.shape[1],
        )
        return found_BH1d[:, :, 0]

    def _laid_out(self, part_NGd: Tensor) -> Tensor:
        packed = self._packed
        most = int(self.lengths_B.max()) + self._room
        laid_BTGd = part_NGd.new_zeros(len(packed.lengths_B), most, *part_NGd.shape[1:])
        start = packed.prefix
        for row, length in enumerate(packed.lengths_B):
            laid_BTGd[row, : packed.prefix] = part_NGd[: packed.prefix]
            laid_BTGd[row, packed.prefix : packed.prefix + length] = part_NGd[start : start + length]
            start += length
        return laid_BTGd


@torch.inference_mode()
def write(
    network: WritingNetwork, asked: Sequence[Sequence[int]], *, most: int, stop: Callable[[], bool]
) -> list[list[int]]:
    """Return the likeliest next tokens of each row, up to `most` or the one that ends an answer. Raises Stopped."""
    decoder = network.decoder
    device, ends = decoder.head.weight.device, set(decoder.config.ends)
    nothing = [np.zeros(len(tokens), dtype=np.bool_) for tokens in asked]
    rows = [
        TokenRow(np.array(tokens, dtype=np.int64), learned, len(tokens))
        for tokens, learned in zip(asked, nothing, strict=True)
    ]
    packed = pack(rows, shared_prefix(rows), device)
    kept = _Kept(packed, most)
    hidden_ND = decoder.run(decoder.embed(packed.tokens_N), packed.positions_N, kept.read, network.project)
    lasts_B = packed.prefix + torch.tensor(packed.lengths_B).cumsum(0) - 1
    hidden_BD = hidden_ND.index_select(0, lasts_B.to(device))
    written: list[list[int]] = [[] for _ in asked]
    going = [True] * len(asked)
    for _ in range(most):
        if stop():
            raise Stopped
        next_B = decoder.logits(hidden_BD).argmax(-1)
        for row, token in enumerate(next_B.tolist()):
            going[row] = going[row] and token not in ends
            if going[row]:
                written[row].append(token)
        if not any(going):
            break
        hidden_BD = decoder.run(decoder.embed(next_B), kept.lengths_B.to(device), kept.write, network.project)
        kept.lengths_B += 1
    return written
