"""What belongs to one customer, ready to compute: a head, and if the version has them LoRA, own blocks, an own base."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from models.backbones.packed import PackedBlock, PackedEncoder

# Module name in `PackedBlock` → the names of a BERT layer that make it up, side by side along the outputs.
LORA_MODULES = {
    "qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "output": ("attention.output.dense",),
    "up": ("intermediate.dense",),
    "down": ("output.dense",),
}
NO_OWN_BLOCK = 1_000_000
# Of an adapter beside its tensors' bytes: measured with tracemalloc on a head of ten classes.
OVERHEAD_BYTES = 4_096


@dataclass(frozen=True, slots=True)
class Place:
    """Where a module's matrices lie in the flat memory of an adapter (in elements)."""

    block: int
    module: str
    down_at: int
    up_at: int
    inputs: int
    rank: int
    outputs: int


@dataclass(frozen=True, slots=True, eq=False)
class LoraWeights:
    """All low-rank matrices of one adapter in one stretch of memory: x → x down_IR up_RO."""

    flat_P: Tensor
    layout: tuple[Place, ...]
    matrices: dict[tuple[int, str], tuple[Tensor, Tensor]]  # views into flat_P


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """One version of one customer's model in memory. K labels, F features."""

    task: str
    labels: tuple[str, ...]
    activation: str  # what turns logits into the output: softmax, sigmoid, identity; "embedding" without a head
    features: tuple[str, ...]
    weight_KF: Tensor | None  # the temperature is folded in
    bias_K: Tensor | None
    thresholds: tuple[float, ...] = ()
    lora: LoraWeights | None = None
    blocks: Mapping[int, PackedBlock] | None = None
    encoder: PackedEncoder | None = None
    nbytes: int = 0
    extras: Mapping[str, object] = field(default_factory=dict)

    @property
    def outputs(self) -> int:
        """Width of one row's output."""
        if self.bias_K is not None:
            return int(self.bias_K.shape[0])
        return sys.maxsize  # an embedding: all of it

    @property
    def first_own_block(self) -> int:
        """From which block on the base is not shared any more."""
        return min(self.blocks) if self.blocks else NO_OWN_BLOCK


def embedding_adapter(depth: int) -> Adapter:
    """Stands for no customer: the L2-normalised mean of the last layer."""
    return Adapter(
        task="embedding", labels=(), activation="embedding", features=(f"mean.{depth}",), weight_KF=None, bias_K=None
    )


def gather_lora(tensors: Mapping[str, Tensor], encoder: PackedEncoder) -> LoraWeights | None:
    """`lora.{block}.{module}.A` (rank, inputs) and `.B` (outputs, rank) → one flat stretch; None if there are none."""
    blocks = sorted({int(name.split(".")[1]) for name in tensors if name.startswith("lora.")})
    parts: list[Tensor] = []
    layout: list[Place] = []
    at = 0
    for block in blocks:
        for module, names in LORA_MODULES.items():
            pairs = [(tensors.get(f"lora.{block}.{name}.A"), tensors.get(f"lora.{block}.{name}.B")) for name in names]
            if all(down is None for down, _ in pairs):
                continue
            down_RI, up_OR = _side_by_side(pairs, encoder.width)
            rank, inputs = down_RI.shape
            outputs = up_OR.shape[0]
            layout.append(Place(block, module, at, at + rank * inputs, inputs, rank, outputs))
            parts += [down_RI.T.reshape(-1), up_OR.T.reshape(-1)]
            at += rank * (inputs + outputs)
    if not parts:
        return None
    flat_P = torch.cat(parts).to(device=encoder.device, dtype=encoder.dtype)
    matrices = {
        (place.block, place.module): (
            flat_P[place.down_at : place.up_at].view(place.inputs, place.rank),
            flat_P[place.up_at : place.up_at + place.rank * place.outputs].view(place.rank, place.outputs),
        )
        for place in layout
    }
    return LoraWeights(flat_P, tuple(layout), matrices)


def _side_by_side(pairs: list[tuple[Tensor | None, Tensor | None]], width: int) -> tuple[Tensor, Tensor]:
    """Matrices of projections that share their input, as one pair: ranks add up, outputs lie side by side."""
    downs: list[Tensor] = []
    ups: list[Tensor] = []
    total = sum(down.shape[0] for down, _ in pairs if down is not None)
    at = 0
    for down_RI, up_OR in pairs:
        outputs = up_OR.shape[0] if up_OR is not None else width
        block_OR = torch.zeros(outputs, total)
        if down_RI is not None and up_OR is not None:
            rank = down_RI.shape[0]
            block_OR[:, at : at + rank] = up_OR
            downs.append(down_RI.float())
            at += rank
        ups.append(block_OR)
    return torch.cat(downs), torch.cat(ups)
