"""Limits of an engine, and the objects that it computes with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.backbones.backbone import Backbone
from models.datasets.windowing import Windowing
from models.serving.adapters.adapter import Adapter
from models.serving.encoders.hot_adapter_merge import HotAdapterMerge
from models.serving.encoders.input_modes import InputMode, tokenize
from models.serving.encoders.pass_cost import PassCost
from models.serving.encoders.passes import answer

Answer = Callable[[Backbone, Sequence[Any], Sequence[Adapter]], list[Any]]
Tokenize = Callable[[Backbone, Sequence[Any], Sequence[InputMode], Sequence[Windowing | None]], list[Any]]


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Limits on what an engine may use."""

    batch_tokens: int  # of one pass
    queue_per_customer: int  # rows that wait
    worker_threads: int = 1  # passes at a time
    merged_bytes: int = 0  # of the own blocks that a hot adapter gets


@dataclass(frozen=True, slots=True)
class EngineParts:
    """Objects that an engine computes with; tests replace single ones."""

    answer: Answer = answer
    tokenize: Tokenize = tokenize
    cost: PassCost = field(default_factory=PassCost)
    hot_adapter_merge: HotAdapterMerge | None = None  # None: one within the engine's limits
