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
from torch.nn import functional as F  # noqa: N812 - the name that everybody knows it by

from models.backbones.encoder import UNIT
from models.backbones.linear import linear
from models.backbones.segments import Segments, lay_out

# Products this small are not what AMX is for: attention of short rows is 5 to 25 % faster in fp32, conversion included.
FP32_ATTENTION_TOKENS = 20


class LowRank(Protocol):
    """What LoRA adds to the linear layers, row by row (see `serving.lora`)."""

    def add(self, block: int, module: str, x_NI: Tensor, y_NO: Tensor) -> None:
        """Add in place to the product of one module: `qkv`, `output`, `up` or `down`."""

    def touches(self, block: int, module: str) -> bool:
        """Whether `add` would do anything there."""


@dataclass(frozen=True, slots=True)
class Run:
    """Rows of one length, next to each other."""

    offset: int  # of its first token
    row: int  # its first row, in packed order
    rows: int
    length: int

    @property
    def end(self) -> int:
        """One past its last token."""
        return self.offset + self.rows * self.length


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Rows sorted by length, end to end. `order[i]` is the caller's index of packed row i."""

    ids_N: Tensor
    positions_N: Tensor
    types_N: Tensor | None  # 1 in the second text of a pair, None if there are only single texts
    runs: tuple[Run, ...]
    order: tuple[int, ...]
    lengths: tuple[int, ...]  # of the packed rows
    offsets: tuple[int, ...]  # of the packed rows' first tokens
    segments: Segments | None = None  # None on a processor

    @property
    def rows(self) -> int:
        """B."""
        return len(self.order)

    @property
    def tokens(self) -> int:
        """N."""
        return int(self.ids_N.shape[0])

    def span(self, row: int) -> range:
        """The tokens of a packed row."""
        return range(self.offsets[row], self.offsets[row] + self.lengths[row])


def pack(
    rows: Sequence[NDArray[np.int32]], *, separator: int | None = None, device: torch.device | str = "cpu"
) -> PackedBatch:
    """Lay rows of token ids end to end, shortest first. `separator` ends a text: with it, pairs get their types."""
    device = torch.device(device)
    lengths_B = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
    order_B = np.argsort(lengths_B, kind="stable")
    lengths_B = lengths_B[order_B]
    ids_N = np.concatenate([rows[index] for index in order_B])
    offsets_B = np.cumsum(lengths_B) - lengths_B
    positions_N = np.arange(len(ids_N)) - np.repeat(offsets_B, lengths_B)
    ids, positions, segments = _place(ids_N, positions_N, lengths_B, order_B, device)
    return PackedBatch(
        ids_N=ids,
        positions_N=positions,
        types_N=None if separator is None else _types(ids_N, separator, offsets_B, lengths_B, device),
        runs=_runs(lengths_B.tolist()),
        order=tuple(order_B.tolist()),
        lengths=tuple(lengths_B.tolist()),
        offsets=tuple(offsets_B.tolist()),
        segments=segments,
    )


def pool(hidden_ND: Tensor, batch: PackedBatch, kind: str) -> Tensor:
    """As `encoder.pool`: mean, max or first token of each row, in fp32 and in the caller's order: BD."""
    if kind.startswith(UNIT):
        return F.normalize(pool(hidden_ND, batch, kind.removeprefix(UNIT)), dim=1)
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
    """A part of a batch: these packed rows, ascending. The part's `order` counts within `packed_rows`."""
    lengths = [batch.lengths[row] for row in packed_rows]
    offsets = np.cumsum([0, *lengths])[:-1]
    kept_N = np.concatenate([np.arange(batch.offsets[row], batch.span(row).stop) for row in packed_rows])
    index_N, _, segments = _place(kept_N, kept_N, np.array(lengths), np.arange(len(lengths)), hidden_ND.device)
    return hidden_ND[index_N], PackedBatch(
        ids_N=batch.ids_N[index_N],
        positions_N=batch.positions_N[index_N],
        types_N=None if batch.types_N is None else batch.types_N[index_N],
        runs=_runs(lengths),
        order=tuple(range(len(packed_rows))),
        lengths=tuple(lengths),
        offsets=tuple(offsets.tolist()),
        segments=segments,
    )


def _place(
    first_N: NDArray[Any], second_N: NDArray[Any], lengths_B: NDArray[Any], order_B: NDArray[Any], device: torch.device
) -> tuple[Tensor, Tensor, Segments | None]:
    """Two columns of tokens on the device, and what a GPU wants to know of the rows."""
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
    """Segment of each token: 1 behind a row's first separator. None if no row has a second one."""
    is_separator_N = ids_N == separator
    before_N = np.cumsum(is_separator_N) - is_separator_N  # separators before each token, over the whole batch
    types_N = (before_N - np.repeat(before_N[offsets_B], lengths_B)) >= 1
    return torch.from_numpy(types_N).to(device) if types_N.any() else None


class PackedBlock:
    """One transformer block, ready to run. Built from a BERT layer's state (names without the block's prefix)."""

    def __init__(self, state: Mapping[str, Tensor], *, heads: int, epsilon: float, dtype: torch.dtype) -> None:
        def cast(name: str) -> Tensor:
            return state[name].detach().to(dtype)

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
        """Memory of its weights."""
        return self._nbytes

    def run(self, hidden_ND: Tensor, batch: PackedBatch, index: int, low_rank: LowRank | None) -> Tensor:
        """The block's output; post-norm as in BERT."""
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
        # Most texts have one segment: its embedding is a constant that the positions carry.
        self.positions_TD = (embeddings.position_embeddings.weight.detach().float() + segments_SD[0]).to(dtype)
        self.second_D = (segments_SD[-1] - segments_SD[0]).to(dtype)
        self.norm = _norm(embeddings.state_dict(), "LayerNorm", dtype)
        self.blocks = [self.prepare(block.state_dict()) for block in blocks]

    @property
    def width(self) -> int:
        """D."""
        return int(self.words_VD.shape[1])

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.words_VD.device

    @property
    def nbytes(self) -> int:
        """Memory of its weights."""
        return int(self.words_VD.nbytes + self.positions_TD.nbytes) + sum(block.nbytes for block in self.blocks)

    def prepare(self, state: Mapping[str, Tensor]) -> PackedBlock:
        """A block of this encoder's shape from a layer's state: the base's own, or a customer's."""
        return PackedBlock(state, heads=self.heads, epsilon=self.epsilon, dtype=self.dtype)

    def pack(self, rows: Sequence[NDArray[np.int32]]) -> PackedBatch:
        """Rows of token ids as a batch for this encoder."""
        return pack(rows, separator=self.separator, device=self.device)

    def embed(self, batch: PackedBatch) -> Tensor:
        """Hidden states before the first block: ND."""
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
        low_rank: LowRank | None = None,
        blocks: Mapping[int, PackedBlock] | None = None,
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Blocks `start` to `stop` (exclusive). Depth d is the state after d blocks; tapped depths are handed out.

        `blocks` replaces blocks by a customer's own.
        """
        tapped: dict[int, Tensor] = {}
        if start in taps:
            tapped[start] = hidden_ND
        for index in range(start, stop):
            block = self.blocks[index] if blocks is None else blocks.get(index, self.blocks[index])
            hidden_ND = block.run(hidden_ND, batch, index, low_rank)
            if index + 1 in taps:
                tapped[index + 1] = hidden_ND
        return hidden_ND, tapped


def is_packable(embeddings: nn.Module, blocks: nn.ModuleList) -> bool:
    """Whether the network is what `PackedEncoder` computes: BERT with post-norm, GELU and absolute positions."""
    return type(embeddings).__name__ == "BertEmbeddings" and all(
        type(block).__name__ == "BertLayer"
        and type(block.intermediate.intermediate_act_fn).__name__ == "GELUActivation"  # type: ignore[union-attr]
        and not getattr(block, "is_decoder", False)
        for block in blocks
    )


def _norm(state: Mapping[str, Tensor], name: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """A normalisation's weights in the precision that is fastest: fp32 beside bf16 on a processor."""
    weight_D, bias_D = state[f"{name}.weight"].detach(), state[f"{name}.bias"].detach()
    chosen = torch.float32 if weight_D.device.type == "cpu" else dtype
    return weight_D.to(chosen), bias_D.to(chosen)


def _attend(qkv_NE: Tensor, batch: PackedBatch, heads: int) -> Tensor:
    if batch.segments is not None:
        return batch.segments.attend(qkv_NE, heads)
    tokens, tripled = qkv_NE.shape
    width = tripled // 3
    context_ND = torch.empty(tokens, width, dtype=qkv_NE.dtype, device=qkv_NE.device)
    on_cpu = qkv_NE.device.type == "cpu"
    for run in batch.runs:
        qkv_RE = qkv_NE[run.offset : run.end]
        if on_cpu and run.length <= FP32_ATTENTION_TOKENS:
            qkv_RE = qkv_RE.float()
        qkv = qkv_RE.view(run.rows, run.length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        attended_BHTd = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        context_ND[run.offset : run.end].view(run.rows, run.length, heads, -1).copy_(attended_BHTd.transpose(1, 2))
    return context_ND
