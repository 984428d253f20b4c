"""Low-rank products of many adapters of one shape, on the matrices where they lie: two calls of the BLAS a module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.serving.adapters.low_rank import LoraWeights, LowRankPair
from models.serving.kernels.batched_products import FLOAT_BYTES, Ints, Products

At = tuple[int, str]


@dataclass(slots=True)
class _Module:
    """The two calls for one kind of module, and where their operands lie, in bytes from the first token's."""

    down: Products
    up: Products
    x_S: Ints
    ranks_S: Ints
    ranks_Q: Ints  # Q: every stretch once per projection
    y_Q: Ints


class ByAddress:
    """Adapters of one shape, each on S stretches of tokens: nothing is padded, gathered or copied."""

    def __init__(self, stretches: Sequence[tuple[LoraWeights, range]]) -> None:
        stretches = sorted(stretches, key=lambda stretch: len(stretch[1]))
        self._weights = [weights for weights, _ in stretches]  # keeps the memory at the addresses alive
        self._addresses_MS = np.stack([weights.addresses for weights in self._weights], axis=1)
        self._offsets_S = np.array([tokens.start for _, tokens in stretches], dtype=np.int64)
        self._lengths_G, self._counts_G = np.unique([len(tokens) for _, tokens in stretches], return_counts=True)
        self._modules: dict[tuple[object, ...], _Module] = {}
        self._matrices: dict[At, int] = {}
        matrix = 0
        for at, pair in self._weights[0].pairs.items():
            self._matrices[at] = matrix
            matrix += 1 + len(pair.ups)

    def add(self, at: At, x_NI: Tensor, y_NO: Tensor) -> None:
        """Add the products of one module, in place."""
        pair = self._weights[0].pairs.get(at)
        if pair is None:  # all are of one shape
            return
        places = tuple((ranks.start, columns.start) for ranks, columns, _ in pair.ups)
        kind = (*pair.down_IR.shape, places, y_NO.stride(0))
        module = self._modules.get(kind)
        if module is None:  # most blocks have the same
            module = self._modules[kind] = self._prepare(pair, y_NO.stride(0))
        x_NI = x_NI.contiguous()
        ranks_NR = torch.empty(x_NI.shape[0], pair.down_IR.shape[1], dtype=x_NI.dtype)
        down = self._matrices[at]
        module.down.run(x_NI.data_ptr() + module.x_S, self._addresses_MS[down], ranks_NR.data_ptr() + module.ranks_S)
        ups_Q = self._addresses_MS[down + 1 : down + 1 + len(pair.ups)].reshape(-1)
        module.up.run(ranks_NR.data_ptr() + module.ranks_Q, ups_Q, y_NO.data_ptr() + module.y_Q)

    def _prepare(self, pair: LowRankPair, y_stride: int) -> _Module:
        inputs, width = pair.down_IR.shape
        ups, groups = len(pair.ups), len(self._lengths_G)
        outputs = pair.ups[0][2].shape[1]  # of a fused module's projections: all the same
        ranks_at = np.array([ranks.start for ranks, _, _ in pair.ups])[:, None]
        outputs_at = np.array([columns.start for _, columns, _ in pair.ups])[:, None]
        return _Module(
            down=Products(
                self._lengths_G,
                self._counts_G,
                np.full(groups, inputs),
                width,
                strides=(inputs, width, width),
                accumulate=False,
            ),
            up=Products(
                np.tile(self._lengths_G, ups),
                np.tile(self._counts_G, ups),
                np.repeat([up_RO.shape[0] for *_, up_RO in pair.ups], groups),
                outputs,
                strides=(width, outputs, y_stride),
                accumulate=True,
            ),
            x_S=self._offsets_S * (inputs * FLOAT_BYTES),
            ranks_S=self._offsets_S * (width * FLOAT_BYTES),
            ranks_Q=((self._offsets_S * width + ranks_at) * FLOAT_BYTES).ravel(),
            y_Q=((self._offsets_S * y_stride + outputs_at) * FLOAT_BYTES).ravel(),
        )
