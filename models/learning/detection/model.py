"""A network that finds boxes, as training and judging see it, whatever it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from models.artifacts.parts import Part
from models.learning.detection.network import ScoredBoxes
from models.learning.detection.truth import Truth

PIXELS = -1  # in place of a depth: the canvas itself, where nothing of the base can be computed beforehand


class DetectionModel(Protocol):
    """One network of a run. Frozen parts are shared with the base.

    `values` are the parameters that train, by name: those of `encoder.…` at the base's rate, those of `detector.…` at
    the full one.
    """

    values: dict[str, Tensor]

    @property
    def frozen_depths(self) -> list[int]:
        """Depths of the base whose maps are the same at every step; [] if there are none: the model reads `PIXELS`."""

    @property
    def trained_blocks(self) -> int | None:
        """Blocks of the base that train; None where that is no question."""

    def forward(self, frozen: Mapping[int, Tensor]) -> ScoredBoxes:
        """Answer from the maps of `frozen_depths`, (B, C, h, w) by depth; else from `PIXELS`, (B, 3, H, W)."""

    def losses(self, frozen: Mapping[int, Tensor], truth: Truth, *, seed: int) -> tuple[Tensor, Tensor]:
        """Return the losses of scores and of boxes; `seed` is for what a loss draws."""

    def details(self) -> dict[str, Any]:
        """Return what assembly needs to know beside the parts, for the manifest."""

    def parts(self) -> tuple[Part, ...]:
        """Return the artifact's parts: only what training changed."""


def copy_weights(model: DetectionModel) -> dict[str, Tensor]:
    """Return a copy of everything that trains, as it is now."""
    return {name: value.detach().clone() for name, value in model.values.items()}


def put_weights(model: DetectionModel, weights: Mapping[str, Tensor]) -> None:
    """Give a model what `copy_weights` returned."""
    with torch.no_grad():
        for name, value in model.values.items():
            value.copy_(weights[name])
