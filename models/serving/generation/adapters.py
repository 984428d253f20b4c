"""One customer's version of a model that writes, in memory: its prompt, low-rank matrices, blocks of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from models.artifacts.manifest import UNSCALED
from models.artifacts.prompt import Prompt
from models.backbones.decoder import LINEAR_LAYERS, Decoder
from models.backbones.linear import Linear
from models.serving.adapters.low_rank import LoraWeights

# The base fuses none of its projections.
LORA_MODULES: Mapping[str, Sequence[str]] = {name: (name,) for name in LINEAR_LAYERS}
OVERHEAD_BYTES = 4_096


@dataclass(frozen=True, slots=True, eq=False)
class OwnNetwork:
    """A network with blocks or embeddings of a version's own; what it did not change is the base's."""

    decoder: Decoder
    linears: Mapping[int, Linear]  # by the id of the layer


@dataclass(frozen=True, slots=True, eq=False)
class WritingAdapter:
    """One version, ready to write; `key` tells apart what keys and values were computed by."""

    task: str
    key: str
    customer_id: str = ""
    prompt: Prompt = field(default_factory=Prompt)
    lora: LoraWeights | None = None
    network: OwnNetwork | None = None
    nbytes: int = OVERHEAD_BYTES
    labels: tuple[str, ...] = ()
    thresholds: tuple[float, ...] = ()
    scale: tuple[float, float] = UNSCALED
