"""Views of a training picture: flipped, cut, stretched, in other light, with the boxes that are still seen in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.learning.detection.canvas import Canvas, Floats, Placement, fit

_PLAIN_VIEWS = 2  # the whole picture, as it is and flipped
NEARER, _FARTHER = 1.8, 0.6  # times the size at which the whole picture fills the canvas
_STRETCH = 0.12  # of one side against the other, in logarithms
_LIGHT, _CONTRAST, _COLOUR = 0.25, 0.25, 0.4
_SEEN = 0.35  # of a box's area, for it to count as seen


@dataclass(frozen=True, slots=True)
class View:
    """Where the picture lies, and by how much its light, contrast and colours are multiplied."""

    placement: Placement
    light: float = 1.0
    contrast: float = 1.0
    colour: float = 1.0


def draw_view(size: tuple[int, int], canvas: Canvas, *, seed: int, picture: int, number: int) -> View:
    """Return view `number` of a picture (width, height); the same for the same numbers."""
    whole = fit(size, canvas)
    mirrored = canvas.width if number % 2 else 0
    if number < _PLAIN_VIEWS:
        return View(Placement(whole.scale_x, whole.scale_y, whole.left, whole.top, mirrored))
    generator = np.random.default_rng((seed, picture, number))
    zoom = float(np.exp(generator.uniform(np.log(_FARTHER), np.log(NEARER))))
    stretch = float(np.exp(generator.uniform(-_STRETCH, _STRETCH)))
    scale_x, scale_y = whole.scale_x * zoom * stretch, whole.scale_y * zoom / stretch
    left = _offset(generator, canvas.width, size[0] * scale_x)
    top = _offset(generator, canvas.height, size[1] * scale_y)
    light, contrast, colour = (float(1 + generator.uniform(-each, each)) for each in (_LIGHT, _CONTRAST, _COLOUR))
    return View(Placement(scale_x, scale_y, left, top, mirrored), light, contrast, colour)


def relight(pixels_HW3: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    """Return a canvas in the view's light."""
    if view.light == view.contrast == view.colour == 1.0:
        return pixels_HW3
    values_HW3 = pixels_HW3.astype(np.float32)
    grey_HW1 = values_HW3.mean(axis=2, keepdims=True)
    values_HW3 = grey_HW1 + (values_HW3 - grey_HW1) * np.float32(view.colour)
    mean = grey_HW1.mean()
    values_HW3 = (mean + (values_HW3 - mean) * np.float32(view.contrast)) * np.float32(view.light)
    lit_HW3: NDArray[np.uint8] = values_HW3.clip(0, 255).astype(np.uint8)
    return lit_HW3


def seen(boxes_M4: Floats, canvas: Canvas) -> tuple[Floats, NDArray[np.bool_]]:
    """Return boxes cut at the canvas's edges, and which of all were seen well enough to count, (M,)."""
    limit_4 = np.array([canvas.width, canvas.height] * 2, dtype=np.float32)
    cut_M4 = np.clip(boxes_M4, 0, limit_4)
    whole_M, left_M = _area(boxes_M4), _area(cut_M4)
    kept_M = (left_M > 1.0) & (left_M >= _SEEN * whole_M)
    return cut_M4[kept_M], kept_M


def _offset(generator: np.random.Generator, room: int, length: float) -> float:
    """Return where a picture of this length begins: inside where it is shorter, else with the canvas full."""
    return float(generator.uniform(min(0.0, room - length), max(0.0, room - length)))


def _area(boxes_M4: Floats) -> Floats:
    area_M: Floats = (boxes_M4[:, 2] - boxes_M4[:, 0]) * (boxes_M4[:, 3] - boxes_M4[:, 1])
    return area_M
