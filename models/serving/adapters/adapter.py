"""One customer's version, ready to compute: a head, and if the version has them LoRA, own blocks, an own base."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from models.artifacts.manifest import UNSCALED
from models.backbones.backbone import Encoder
from models.backbones.packed import PackedBlock, PackedEncoder
from models.datasets.windowing import Windowing
from models.learning.heads.ngram_head import NgramHead
from models.learning.tasks.link_functions import LinkFunction
from models.serving.adapters.low_rank import LoraWeights
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
class Adapter:
    """One version of one customer's model in memory. K labels, F features."""

    task: str
    labels: tuple[str, ...]
    link: LinkFunction | None  # from logits to the output; None without a head, for an embedding
    features: tuple[str, ...]
    weight_KF: Tensor | None  # the temperature is folded in
    bias_K: Tensor | None
    input_mode: InputMode = "whole"
    windowing: Windowing | None = None  # how long texts are read; None: their beginnings
    ngram_head: NgramHead | None = None  # adds to the logits by the n-grams of a text; the temperature is folded in
    thresholds: tuple[float, ...] = ()
    scale: tuple[float, float] = UNSCALED
    lora: LoraWeights | None = None
    blocks: Mapping[int, PackedBlock] | None = None
    encoder: PackedEncoder | None = None  # a whole base of its own, on the fast path
    network: Encoder | None = None  # the same where the base has no fast path, all that the version changed merged in
    nbytes: int = 0
    customer_id: str = ""  # whose it is; "" for nobody's
    key: str = ""  # the hash of the version's manifest
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


def embedding_adapter(depth: int, windowing: Windowing | None = None) -> Adapter:
    """Return the adapter of no customer, which answers with the L2-normalised mean of the last layer."""
    return Adapter(
        task="embedding",
        labels=(),
        link=None,
        features=(f"mean.{depth}",),
        weight_KF=None,
        bias_K=None,
        windowing=windowing,
    )
