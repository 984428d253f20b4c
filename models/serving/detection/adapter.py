"""One customer's version of a model that finds boxes, in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from models.artifacts.manifest import UNSCALED
from models.backbones.stacks import MediaEncoder
from models.learning.detection.canvas import Canvas
from models.learning.detection.network import ScoredBoxes

OVERHEAD_BYTES = 16_384  # of the detector's modules beside their tensors
PRETRAINED_OVERHEAD_BYTES = 2**21  # of a whole network's: 1.7 MiB of RT-DETR-R50


@dataclass(frozen=True, slots=True, eq=False)
class DetectionAdapter:
    """One version: what finds boxes, the canvas that it reads, and a base of its own if that was trained too.

    `detector` reads maps of the base, those of `depths`, the finest first. A pretrained detector reads the canvas
    itself (`PIXELS`), and is a whole network that shares what did not train with the base.

    `input_mode`, `windowing` and `lora` are what an `encoders.engine.Engine` asks of every adapter.
    """

    task: str
    customer_id: str
    labels: tuple[str, ...]
    thresholds: tuple[float, ...]
    canvas: Canvas
    depths: tuple[int, ...]
    detector: Callable[[Sequence[Tensor]], ScoredBoxes]
    network: MediaEncoder | None  # None: the shared base
    nbytes: int
    input_mode: Literal["whole"] = "whole"
    windowing: None = None
    lora: None = None
    scale: tuple[float, float] = UNSCALED
