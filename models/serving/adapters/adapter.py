"""One customer's version, ready to compute: a head, and if the version has them LoRA, own blocks, an own base."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.artifacts.parts import LowRankWeights
from models.backbones.backbone import Encoder
from models.backbones.packed import PackedBlock, PackedEncoder
from models.learning.heads.ngram_head import NgramHead
from models.learning.tasks.link_functions import LinkFunction
from models.serving.encoders.input_modes import InputMode

# Module name in `PackedBlock` → the names of a BERT layer that make it up, side by side along the outputs.
LORA_MODULES = {
    "qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "output": ("attention.output.dense",),
    "up": ("intermediate.dense",),
    "down": ("output.dense",),
}
NO_OWN_BLOCK = 1_000_000
# Memory of an adapter beside its tensors: measured with tracemalloc on a head of ten classes.
OVERHEAD_BYTES = 4_096


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


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """One version of one customer's model in memory. K labels, F features."""

    task: str
    labels: tuple[str, ...]
    link: LinkFunction | None  # from logits to the output; None without a head, for an embedding
    features: tuple[str, ...]
    weight_KF: Tensor | None  # the temperature is folded in
    bias_K: Tensor | None
    input_mode: InputMode = "whole"
    ngram_head: NgramHead | None = None  # adds to the logits by the n-grams of a text; the temperature is folded in
    thresholds: tuple[float, ...] = ()
    lora: LoraWeights | None = None
    blocks: Mapping[int, PackedBlock] | None = None
    encoder: PackedEncoder | None = None  # a whole base of its own, on the fast path
    network: Encoder | None = None  # the same where the base has no fast path, all that the version changed merged in
    nbytes: int = 0
    customer_id: str = ""  # whose it is; "" for nobody's
    extras: Mapping[str, object] = field(default_factory=dict)

    @property
    def outputs(self) -> int:
        """Width of one row's output."""
        if self.bias_K is not None:
            return int(self.bias_K.shape[0])
        return sys.maxsize  # an embedding: all of it

    @property
    def first_own_block(self) -> int:
        """Index of the first block that is not the base's."""
        return min(self.blocks) if self.blocks else NO_OWN_BLOCK


def embedding_adapter(depth: int) -> Adapter:
    """Return the adapter of no customer, which answers with the L2-normalised mean of the last layer."""
    return Adapter(task="embedding", labels=(), link=None, features=(f"mean.{depth}",), weight_KF=None, bias_K=None)


def gather_lora(saved: LowRankWeights, encoder: PackedEncoder) -> LoraWeights | None:
    """Return the matrices made ready; None if there are none on the modules of this base."""
    blocks = sorted({block for block, _ in saved.pairs})
    pairs: dict[tuple[int, str], LowRankPair] = {}
    for block in blocks:
        for module, names in LORA_MODULES.items():
            pair = _join([saved.pairs.get((block, name)) for name in names], encoder)
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


def _join(projections: Sequence[tuple[Tensor, Tensor] | None], encoder: PackedEncoder) -> LowRankPair | None:
    """Join the projections of one module that the adapter has; a fused module's lie side by side along the outputs."""
    downs: list[Tensor] = []
    ups: list[tuple[slice, slice, Tensor]] = []
    rank_at = 0
    for position, matrices in enumerate(projections):
        if matrices is None:
            continue
        down_RI, up_OR = (matrix.to(encoder.device, encoder.dtype) for matrix in matrices)
        rank, outputs = down_RI.shape[0], up_OR.shape[0]
        downs.append(down_RI)
        at = position * outputs  # fused projections are of one width
        ups.append((slice(rank_at, rank_at + rank), slice(at, at + outputs), up_OR.T.contiguous()))
        rank_at += rank
    return LowRankPair(torch.cat(downs).T.contiguous(), tuple(ups)) if downs else None
