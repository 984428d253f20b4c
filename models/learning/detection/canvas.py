"""The canvas on which a model sees pictures: how large it is, and where a picture lies on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.datasets.examples import Media
from models.datasets.limits import UNLIMITED
from models.datasets.media import pictures

Floats = NDArray[np.float32]

STEP = 32  # both sides are multiples of it: the coarsest stride
_GREY = (124, 116, 104)  # around a picture: ImageNet's mean colour, near zero for most bases
# Sides that are tried, and the size on the canvas that an object's shorter side should have: two places of stride 8.
SIDES = (256, 320, 384, 448)
_WANTED = 16.0
_SMALL_SHARE = 0.25  # of a label's boxes may be smaller than that
_WIDE_SHARE = 0.9  # of the pictures fill the canvas along their longer side


@dataclass(frozen=True, slots=True)
class Canvas:
    """Height and width in pixels."""

    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width


@dataclass(frozen=True, slots=True)
class Placement:
    """A picture on a canvas: a point (x, y) of it lies at (x * scale_x + left, y * scale_y + top), then mirrored."""

    scale_x: float
    scale_y: float
    left: float
    top: float
    mirrored_width: int = 0  # of the canvas that is flipped; 0: it is not

    def onto(self, boxes_M4: Floats) -> Floats:
        """Return boxes of the picture as they lie on the canvas."""
        scale_4 = np.array([self.scale_x, self.scale_y] * 2, dtype=np.float32)
        moved_M4 = boxes_M4 * scale_4 + np.array([self.left, self.top] * 2, dtype=np.float32)
        return self._mirror(moved_M4)

    def back(self, boxes_M4: Floats) -> Floats:
        """Return boxes of the canvas in the picture's own pixels."""
        scale_4 = np.array([self.scale_x, self.scale_y] * 2, dtype=np.float32)
        return (self._mirror(boxes_M4) - np.array([self.left, self.top] * 2, dtype=np.float32)) / scale_4

    def _mirror(self, boxes_M4: Floats) -> Floats:
        if not self.mirrored_width:
            return boxes_M4
        mirrored_M4 = boxes_M4.copy()
        mirrored_M4[:, 0], mirrored_M4[:, 2] = (
            self.mirrored_width - boxes_M4[:, 2],
            self.mirrored_width - boxes_M4[:, 0],
        )
        return mirrored_M4


def fit(size: tuple[int, int], canvas: Canvas) -> Placement:
    """Return the placement of a whole picture (width, height), as large as it goes and in the middle (a letterbox)."""
    width, height = size
    scale = min(canvas.width / width, canvas.height / height)
    return Placement(scale, scale, (canvas.width - width * scale) / 2, (canvas.height - height * scale) / 2)


def decode(media: Media, size: tuple[int, int], canvas: Canvas, *, zoom: float = 1.0) -> Image.Image:
    """Return a picture (width, height), reduced if it is large, but not below `zoom` times its size on the canvas."""
    scale = fit(size, canvas).scale_x * zoom
    shortest = max(1, math.ceil(min(size) * min(scale, 1.0)))
    return pictures.decode(media.data, media.name, UNLIMITED, shortest=shortest)


def draw(picture: Image.Image, size: tuple[int, int], placement: Placement, canvas: Canvas) -> NDArray[np.uint8]:
    """Return the canvas with a picture on it, (H, W, 3).

    `size` is the picture's own (width, height), of which `picture` may be a reduced copy.
    """
    horizontal = _extent(size[0], placement.scale_x, placement.left, canvas.width)
    vertical = _extent(size[1], placement.scale_y, placement.top, canvas.height)
    drawn_HW3 = np.empty((canvas.height, canvas.width, 3), dtype=np.uint8)
    drawn_HW3[:] = _GREY
    if horizontal is not None and vertical is not None:
        (x0, x1, from_x, to_x), (y0, y1, from_y, to_y) = horizontal, vertical
        by_x, by_y = picture.width / size[0], picture.height / size[1]
        box = (from_x * by_x, from_y * by_y, to_x * by_x, to_y * by_y)
        part = picture.resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)
        drawn_HW3[y0:y1, x0:x1] = np.asarray(part)
    return drawn_HW3[:, ::-1].copy() if placement.mirrored_width else drawn_HW3


def choose(sizes: Sequence[tuple[int, int]], boxes: Sequence[Floats], labels: Sequence[NDArray[np.int64]]) -> Canvas:
    """Return the canvas for pictures (width, height) with such boxes: no larger than small objects need it.

    Its longer side is the least at which three of four objects of every label have two places of the finest map across;
    where most pictures are wide, or most are tall, it is no squarer than they are.
    """
    smallest = smallest_side([max(size) for size in sizes], boxes, labels)
    side = next((side for side in SIDES if side * smallest >= _WANTED), SIDES[-1])
    extent_N2 = np.array([(width / max(width, height), height / max(width, height)) for width, height in sizes])
    width, height = (int(-(-side * np.quantile(extent_N2[:, at], _WIDE_SHARE) // STEP)) * STEP for at in (0, 1))
    return Canvas(height, width)


def smallest_side(units: Sequence[float], boxes: Sequence[Floats], labels: Sequence[NDArray[np.int64]]) -> float:
    """Return the shorter side that a quarter of the boxes of some label falls below; the least of all labels.

    In `units` of each picture, its pixels each; 1 without any box.
    """
    shorter = [np.minimum(each[:, 2] - each[:, 0], each[:, 3] - each[:, 1]) for each in boxes]
    side_M = np.concatenate([own_M / unit for own_M, unit in zip(shorter, units, strict=True)])
    label_M = np.concatenate(labels)
    quantiles = [np.quantile(side_M[label_M == label], _SMALL_SHARE) for label in np.unique(label_M)]
    return float(min(quantiles, default=1.0))


def _extent(length: int, scale: float, start: float, most: int) -> tuple[int, int, float, float] | None:
    """Return pixels of the canvas from and to, and of the picture, along one axis; None where nothing is seen."""
    first, last = max(0, round(start)), min(most, round(start + length * scale))
    if last <= first:
        return None
    begin, end = max(0.0, (first - start) / scale), min(float(length), (last - start) / scale)
    return (first, last, begin, end) if end > begin else None
