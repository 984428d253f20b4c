"""The low-rank matrices of one version, laid out to be multiplied with those of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.artifacts.parts import LowRankWeights


@dataclass(frozen=True, slots=True, eq=False)
class LowRankPair:
    """One module's product x → (x down_IR)[:, ranks] up_RO for each of its projections, which share the input."""

    down_IR: Tensor  # ranks of all projections side by side
    ups: tuple[tuple[slice, slice, Tensor], ...]  # (ranks, outputs, up_RO) of each projection

    def matrices(self) -> tuple[Tensor, ...]:
        """Return down, then the ups."""
        return (self.down_IR, *(up_RO for *_, up_RO in self.ups))


@dataclass(frozen=True, slots=True, eq=False)
class LoraWeights:
    """All low-rank matrices of one adapter. Adapters of one `shape` can be multiplied together."""

    pairs: Mapping[tuple[int, str], LowRankPair]
    shape: tuple[object, ...]
    nbytes: int
    flat_P: Tensor  # all matrices one after the other, in the order of the pairs: down, then the ups
    addresses: NDArray[np.int64]  # of the matrices, in that order


def gather_lora(
    saved: LowRankWeights, modules: Mapping[str, Sequence[str]], *, device: torch.device, dtype: torch.dtype
) -> LoraWeights | None:
    """Return the matrices made ready; None if there are none on the modules of this base.

    `modules`: the base's linear layers, and the names of the projections that each of them fuses.
    """
    blocks = sorted({block for block, _ in saved.pairs})
    pairs: dict[tuple[int, str], LowRankPair] = {}
    for block in blocks:
        for module, names in modules.items():
            pair = _join([saved.pairs.get((block, name)) for name in names], device, dtype)
            if pair is not None:
                pairs[block, module] = pair
    if not pairs:
        return None
    shape = tuple(
        (at, tuple(pair.down_IR.shape), tuple((ranks.start, outputs.start) for ranks, outputs, _ in pair.ups))
        for at, pair in pairs.items()
    )
    flat_P, pairs = _lay_together(pairs)
    matrices = [matrix for pair in pairs.values() for matrix in pair.matrices()]
    addresses = np.array([matrix.data_ptr() for matrix in matrices], dtype=np.int64)
    return LoraWeights(pairs, shape, flat_P.nbytes, flat_P, addresses)


def _lay_together(pairs: Mapping[tuple[int, str], LowRankPair]) -> tuple[Tensor, dict[tuple[int, str], LowRankPair]]:
    """Return the same matrices as views of one tensor, so that those of many adapters are stacked by one copy each."""
    flat_P = torch.cat([matrix.reshape(-1) for pair in pairs.values() for matrix in pair.matrices()])
    at = 0

    def view(matrix: Tensor) -> Tensor:
        nonlocal at
        at += matrix.numel()
        return flat_P[at - matrix.numel() : at].view(matrix.shape)

    laid = {
        place: LowRankPair(
            view(pair.down_IR), tuple((ranks, outputs, view(up_RO)) for ranks, outputs, up_RO in pair.ups)
        )
        for place, pair in pairs.items()
    }
    return flat_P, laid


def _join(
    projections: Sequence[tuple[Tensor, Tensor] | None], device: torch.device, dtype: torch.dtype
) -> LowRankPair | None:
    """Join the projections of one module that the adapter has; a fused module's lie side by side along the outputs."""
    downs: list[Tensor] = []
    ups: list[tuple[slice, slice, Tensor]] = []
    rank_at = 0
    for position, matrices in enumerate(projections):
        if matrices is None:
            continue
        down_RI, up_OR = (matrix.to(device, dtype) for matrix in matrices)
        rank, outputs = down_RI.shape[0], up_OR.shape[0]
        downs.append(down_RI)
        at = position * outputs  # fused projections are of one width
        ups.append((slice(rank_at, rank_at + rank), slice(at, at + outputs), up_OR.T.contiguous()))
        rank_at += rank
    return LowRankPair(torch.cat(downs).T.contiguous(), tuple(ups)) if downs else None
