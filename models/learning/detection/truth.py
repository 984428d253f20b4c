"""The boxes that a batch of pictures has."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Truth:
    """The boxes of B pictures in pixels of the canvas, padded to M: `present` says which are there."""

    boxes_BM4: Tensor
    labels_BM: Tensor
    present_BM: Tensor
