"""Keys and values of all sequences, in blocks: where tokens lie, and how they are written and read.

A layer's keys are (tokens, G, d): the tokens of a block are neighbours, and so are blocks of neighbouring numbers. A
sequence whose blocks are neighbours is read where it lies; of any other, its blocks are gathered.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models.backbones.decoder import DecoderConfig
from models.serving.generation.blocks import BLOCK_TOKENS

# Where the tokens of a sequence lie: neighbours, or the numbers of its blocks.
Place = slice | Tensor


def block_bytes(config: DecoderConfig, dtype: torch.dtype) -> int:
    """Return what a block takes."""
    return 2 * config.blocks * BLOCK_TOKENS * config.key_value_heads * config.head_width * dtype.itemsize


class KeyValueMemory:
    """Keys and values in `count` blocks. Pages that were never written to take no memory."""

    def __init__(self, config: DecoderConfig, count: int, *, device: torch.device, dtype: torch.dtype) -> None:
        shape = (config.blocks, count * BLOCK_TOKENS, config.key_value_heads, config.head_width)
        self._keys = torch.empty(shape, device=device, dtype=dtype).unbind(0)
        self._values = torch.empty(shape, device=device, dtype=dtype).unbind(0)
        self._whole = [
            (keys_TGd.transpose(0, 1)[None], values_TGd.transpose(0, 1)[None])
            for keys_TGd, values_TGd in zip(self._keys, self._values, strict=True)
        ]
        self._device = device

    def slots(self, blocks: Sequence[int], start: int, stop: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Return where the tokens `start` to `stop - 1` of a sequence lie."""
        tokens = np.arange(start, stop)
        first = start // BLOCK_TOKENS
        table = np.asarray(blocks[first : -(-stop // BLOCK_TOKENS)])
        return table[tokens // BLOCK_TOKENS - first] * BLOCK_TOKENS + tokens % BLOCK_TOKENS

    def place(self, blocks: Sequence[int], stop: int) -> Place:
        """Return where the tokens before `stop` lie."""
        table = np.asarray(blocks[: -(-stop // BLOCK_TOKENS)])
        if len(table) == 1 or bool((np.diff(table) == 1).all()):
            begin = int(table[0]) * BLOCK_TOKENS
            return slice(begin, begin + stop)
        return torch.from_numpy(table).to(self._device)

    def write(self, layer: int, slots_N: Tensor, key_NGd: Tensor, value_NGd: Tensor) -> None:
        """Store the keys and values of tokens."""
        self._keys[layer].index_copy_(0, slots_N, key_NGd)
        self._values[layer].index_copy_(0, slots_N, value_NGd)

    def whole(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return all keys and values of a layer as attention takes them, (1, G, tokens, d), to be narrowed."""
        return self._whole[layer]

    def read(self, layer: int, place: Place, stop: int) -> tuple[Tensor, Tensor]:
        """Return the keys and values of a sequence's tokens before `stop`, (T, G, d) each."""
        if isinstance(place, slice):
            return self._keys[layer][place], self._values[layer][place]
        return self._gather(self._keys[layer], place, stop), self._gather(self._values[layer], place, stop)

    @staticmethod
    def _gather(stored: Tensor, blocks: Tensor, stop: int) -> Tensor:
        found = stored.view(-1, BLOCK_TOKENS, *stored.shape[1:]).index_select(0, blocks)
        return found.flatten(0, 1)[:stop]
