"""The frozen text encoder at full speed: tokens of many rows laid end to end, no padding anywhere.

Three things make it fast on a CPU, each measured: no padded token is ever multiplied; linear layers run on prepacked
weights with what follows them fused in (`backbones.linear`); attention is one product per run of rows of equal length,
without a mask. It also makes a row's numbers independent of its neighbours' lengths. A GPU gets the same batch with its
segments (`backbones.segments`).

Shapes: N tokens of B rows in one batch, D the width, H heads, T the length of the rows of one run.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from models.backbones.linear import linear
from models.backbones.packed_batch import PackedBatch, pack

# AMX gains nothing on products this small: attention of short rows is 5 to 25 % faster in fp32, conversion included.
FP32_ATTENTION_TOKENS = 20
# Multiples to which batches are padded (see `packed_batch`): rows of an AMX tile; in fp32 each further token is dear.
BF16_GRAIN, FP32_GRAIN = 16, 4


class LowRank(Protocol):
    """Low-rank products that LoRA adds to the linear layers, row by row (see `serving.kernels.low_rank`)."""

    def add(self, block: int, module: str, x_NI: Tensor, y_NO: Tensor) -> None:
        """Add in place to the product of one module: `qkv`, `output`, `up` or `down`."""

    def touches(self, block: int, module: str) -> bool:
        """Return whether `add` would do anything there."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """Changes of a run by adapters: low-rank products beside the linear layers, or blocks of a customer's own."""

    low_rank: LowRank | None = None
    blocks: Mapping[int, PackedBlock] | None = None


class PackedBlock:
    """One transformer block, ready to run. Built from a BERT layer's state (names without the block's prefix).

    It holds copies: one bias that is a view of a mapped file keeps the whole file in memory.
    """

    def __init__(self, state: Mapping[str, Tensor], *, heads: int, epsilon: float, dtype: torch.dtype) -> None:
        def cast(name: str) -> Tensor:
            return state[name].detach().to(dtype, copy=True)

        qkv = ("attention.self.query", "attention.self.key", "attention.self.value")
        self.heads = heads
        self.epsilon = epsilon
        self.qkv = linear(
            torch.cat([cast(f"{name}.weight") for name in qkv]), torch.cat([cast(f"{name}.bias") for name in qkv])
        )
        self.output = linear(cast("attention.output.dense.weight"), cast("attention.output.dense.bias"))
        self.output_norm = _norm(state, "attention.output.LayerNorm", dtype)
        self.up = linear(cast("intermediate.dense.weight"), cast("intermediate.dense.bias"))
        self.down = linear(cast("output.dense.weight"), cast("output.dense.bias"))
        self.down_norm = _norm(state, "output.LayerNorm", dtype)
        self._nbytes = sum(tensor.numel() for tensor in state.values()) * dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Memory of its weights, in bytes."""
        return self._nbytes

    def run(self, hidden_ND: Tensor, batch: PackedBatch, index: int, low_rank: LowRank | None) -> Tensor:
        """Return the block's output; post-norm as in BERT."""
        width = (hidden_ND.shape[1],)
        qkv_NE = self.qkv.plain(hidden_ND)
        if low_rank is not None:
            low_rank.add(index, "qkv", hidden_ND, qkv_NE)
        context_ND = _attend(qkv_NE, batch, self.heads)
        mixed_ND = self.output.onto(context_ND, hidden_ND)
        if low_rank is not None:
            low_rank.add(index, "output", context_ND, mixed_ND)
        hidden_ND = F.layer_norm(mixed_ND, width, *self.output_norm, self.epsilon)
        if low_rank is not None and low_rank.touches(index, "up"):
            inner_NI = self.up.plain(hidden_ND)
            low_rank.add(index, "up", hidden_ND, inner_NI)
            inner_NI = torch.ops.aten.gelu_(inner_NI)  # in place: a new tensor of this size is pages to fault in
        else:
            inner_NI = self.up.gelu(hidden_ND)
        outer_ND = self.down.onto(inner_NI, hidden_ND)
        if low_rank is not None:
            low_rank.add(index, "down", inner_NI, outer_ND)
        return F.layer_norm(outer_ND, width, *self.down_norm, self.epsilon)


NO_OVERRIDES = Overrides()


class PackedEncoder:
    """A BERT encoder's embeddings and blocks, frozen, in one precision."""

    def __init__(
        self, embeddings: Any, blocks: nn.ModuleList, *, dtype: torch.dtype, separator: int | None = None
    ) -> None:
        first: Any = blocks[0]
        self.dtype = dtype
        self.separator = separator
        self.heads = int(first.attention.self.num_attention_heads)
        self.epsilon = float(first.output.LayerNorm.eps)
        self.words_VD: Tensor = embeddings.word_embeddings.weight.detach().to(dtype)
        segments_SD = embeddings.token_type_embeddings.weight.detach().float()
        # Most texts have one segment: its embedding is a constant, added to the positions.
        self.positions_TD = (embeddings.position_embeddings.weight.detach().float() + segments_SD[0]).to(dtype)
        self.second_D = (segments_SD[-1] - segments_SD[0]).to(dtype)
        self.norm = _norm(embeddings.state_dict(), "LayerNorm", dtype)
        self.blocks = [self.prepare(block.state_dict()) for block in blocks]
        on_cpu = self.device.type == "cpu"
        self._grain = 1 if not on_cpu else (BF16_GRAIN if dtype is torch.bfloat16 else FP32_GRAIN)

    @property
    def width(self) -> int:
        """The size of a hidden vector."""
        return int(self.words_VD.shape[1])

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.words_VD.device

    @property
    def nbytes(self) -> int:
        """Memory of its weights, in bytes."""
        return int(self.words_VD.nbytes + self.positions_TD.nbytes) + sum(block.nbytes for block in self.blocks)

    def prepare(self, state: Mapping[str, Tensor]) -> PackedBlock:
        """Return a block of this encoder's shape from a layer's state: the base's own, or a customer's."""
        return PackedBlock(state, heads=self.heads, epsilon=self.epsilon, dtype=self.dtype)

    def pack(self, rows: Sequence[NDArray[np.int32]]) -> PackedBatch:
        """Return rows of token ids as a batch for this encoder."""
        return pack(rows, separator=self.separator, device=self.device, grain=self._grain)

    def embed(self, batch: PackedBatch) -> Tensor:
        """Return the hidden states before the first block, (N, D)."""
        hidden_ND = F.embedding(batch.ids_N, self.words_VD).add_(F.embedding(batch.positions_N, self.positions_TD))
        if batch.types_N is not None:
            hidden_ND.addcmul_(batch.types_N[:, None].to(self.dtype), self.second_D)
        return F.layer_norm(hidden_ND, (hidden_ND.shape[1],), *self.norm, self.epsilon)

    def run(
        self,
        batch: PackedBatch,
        hidden_ND: Tensor,
        start: int,
        stop: int,
        *,
        taps: Collection[int] = (),
        overrides: Overrides = NO_OVERRIDES,
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Run blocks `start` to `stop - 1`; return the end and the tapped depths (d: the state after d blocks)."""
        blocks = overrides.blocks
        tapped: dict[int, Tensor] = {}
        if start in taps:
            tapped[start] = hidden_ND
        for index in range(start, stop):
            block = self.blocks[index] if blocks is None else blocks.get(index, self.blocks[index])
            hidden_ND = block.run(hidden_ND, batch, index, overrides.low_rank)
            if index + 1 in taps:
                tapped[index + 1] = hidden_ND
        return hidden_ND, tapped


def is_packable(embeddings: nn.Module, blocks: nn.ModuleList) -> bool:
    """Return whether the network is what `PackedEncoder` computes: BERT with post-norm, GELU and absolute positions."""
    if type(embeddings).__name__ != "BertEmbeddings" or any(type(block).__name__ != "BertLayer" for block in blocks):
        return False
    layers: list[Any] = list(blocks)
    return all(
        type(layer.intermediate.intermediate_act_fn).__name__ in ("GELU", "GELUActivation")
        and not getattr(layer, "is_decoder", False)
        for layer in layers
    )


def _norm(state: Mapping[str, Tensor], name: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return a normalisation's weights in the precision that is fastest: fp32 beside bf16 on a processor."""
    weight_D, bias_D = state[f"{name}.weight"].detach(), state[f"{name}.bias"].detach()
    chosen = torch.float32 if weight_D.device.type == "cpu" else dtype
    return weight_D.to(chosen, copy=True), bias_D.to(chosen, copy=True)


def _attend(qkv_NE: Tensor, batch: PackedBatch, heads: int) -> Tensor:
    if batch.segments is not None:
        return batch.segments.attend(qkv_NE, heads)
    tokens, tripled = qkv_NE.shape
    width = tripled // 3
    context_ND = torch.empty(tokens, width, dtype=qkv_NE.dtype, device=qkv_NE.device)
    context_ND[batch.used :] = 0
    on_cpu = qkv_NE.device.type == "cpu"
    for run in batch.runs:
        qkv_RE = qkv_NE[run.offset : run.end]
        if on_cpu and run.length <= FP32_ATTENTION_TOKENS:
            qkv_RE = qkv_RE.float()
        qkv = qkv_RE.view(run.rows, run.length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        attended_BHTd = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        context_ND[run.offset : run.end].view(run.rows, run.length, heads, -1).copy_(attended_BHTd.transpose(1, 2))
    return context_ND
