"""Maps of a picture base: what its blocks make of every place, for models that say where something is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.backbones.detector import DetectorBackbone
from models.backbones.media import MediaBackbone, PixelReader
from models.backbones.stacks import MediaBatch, MediaEncoder

_SIDE = 256  # of the picture by which strides are measured: a multiple of every stride that is used
# A block that only widens what the one before it made (MobileNetV2's last convolution, 320 to 1,280) says nothing new
# about places, and costs four times the memory and the products behind it.
_WIDENS = 3


PictureBase: TypeAlias = MediaBackbone | DetectorBackbone  # on which boxes are found


@dataclass(frozen=True, slots=True)
class MapLevel:
    """The map behind `depth` blocks: `width` channels, a place for every `stride` × `stride` pixels."""

    stride: int
    depth: int
    width: int


@torch.inference_mode()
def levels(backbone: MediaBackbone) -> tuple[MapLevel, ...]:
    """Return the deepest map of every stride, the finest first; () for a base of tokens, or of sounds."""
    encoder = backbone.encoder
    if not encoder.is_map or not isinstance(backbone.reader, PixelReader):
        return ()
    shapes = _shapes(encoder, backbone.device)
    found: dict[int, MapLevel] = {}
    for depth, shape in shapes.items():
        stride, width = _SIDE // shape[-1], shape[1]
        before = found.get(stride)
        if before is None or width <= _WIDENS * before.width:
            found[stride] = MapLevel(stride, depth, width)
    return tuple(found[stride] for stride in sorted(found))


def compute(encoder: MediaEncoder, depths: Sequence[int], values_B3HW: Tensor) -> Mapping[int, Tensor]:
    """Return the maps behind so many blocks, (B, C, h, w) each, by depth."""
    batch = MediaBatch(values_B3HW, tuple(range(len(values_B3HW) + 1)))
    _, tapped = encoder.run(batch, encoder.embed(batch), 0, max(depths), taps=set(depths))
    return tapped


def values(backbone: PictureBase, pixels_BHW3: NDArray[np.uint8]) -> Tensor:
    """Return pictures of one size as the base's input, (B, 3, H, W) on its device. Raises TypeError for other bases."""
    if not isinstance(backbone.reader, PixelReader):
        raise TypeError(f"'{backbone.entry.name}' reads no pictures")
    return backbone.reader.scale(pixels_BHW3).to(backbone.device)


def _shapes(encoder: MediaEncoder, device: torch.device) -> dict[int, torch.Size]:
    values = torch.zeros(1, 3, _SIDE, _SIDE, device=device)
    blocks = len(encoder.blocks)
    return {depth: hidden.shape for depth, hidden in compute(encoder, range(blocks + 1), values).items()}
