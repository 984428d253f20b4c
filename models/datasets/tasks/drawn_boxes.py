"""Boxes as annotation files have them, made into boxes of the upright picture, or into what is wrong with them.

Annotation tools disagree about pictures that a camera marked as turned (EXIF orientation 5 to 8). Most show them
upright, some as they are stored. The size that the annotation states tells which it was; without one, upright is meant.
"""

from __future__ import annotations

from typing import Any

from models.datasets.examples import Box
from models.datasets.formats.boxes.annotation import Annotation, DrawnBox
from models.datasets.limits import Limits
from models.datasets.media.pictures import Measured
from models.datasets.problems import BadValue, excerpt
from models.datasets.tasks import cells

OVERHANG = 2.0  # pixels beyond the picture's edge that are cut off: rounding, and tools that count from 1
_ROUNDING = 0.01  # of a pixel: six decimals of a share of a large picture's width
_THINNEST = 0.01  # pixels: what is thinner is a slip of the annotation tool, and has no area to be found
_SIDES = ("left", "top", "right", "bottom")
_PIXELS = "Write boxes in the picture's own pixels, counted from its upper left corner, or remove the box."


def stored_upright(annotation: Annotation, picture: Measured) -> bool:
    """Return whether boxes are in pixels of the upright picture, and not of the stored one. Raises BadValue.

    The sizes that are stated have to be the picture's: boxes of a larger or smaller version of it lie elsewhere.
    """
    stated = _stated(annotation)
    if stated is None or stated == (picture.width, picture.height):
        return True
    if stated == (picture.stored_width, picture.stored_height):
        return False
    reason = (
        f"has {picture.width} x {picture.height} pixels where its annotation ('{excerpt(annotation.member, 80)}') says "
        f"{stated[0]} x {stated[1]}"
    )
    raise BadValue(reason, "Upload the picture that was annotated, or scale the boxes with it and correct the size.")


def read_box(drawn: DrawnBox, annotation: Annotation, picture: Measured, upright: bool, limits: Limits) -> Box:
    """Return a box in pixels of the upright picture. Raises BadValue if it is none, or lies outside."""
    label = cells.label(drawn.label, limits)
    width, height = (picture.width, picture.height) if upright else (picture.stored_width, picture.stored_height)
    scales = (width, height, width, height) if annotation.relative else (1, 1, 1, 1)
    numbers = [_number(side, edge, limits) for side, edge in zip(_SIDES, drawn.edges, strict=True)]
    left, top, right, bottom = (number * scale for number, scale in zip(numbers, scales, strict=True))
    shown = f"({left:g}, {top:g}, {right:g}, {bottom:g})"
    for first, second, less, more in (("left", "right", left, right), ("top", "bottom", top, bottom)):
        if more < less:
            reason = f"is inverted: its {second} edge is before its {first} edge {shown}"
            raise BadValue(reason, f"Exchange the two, or remove the box; the order is {', '.join(_SIDES)}.")
        if (extent := more - less) < _THINNEST:
            what = "width" if first == "left" else "height"
            raise BadValue(f"is empty: its {what} is {extent:.2g}{' pixels' if extent else ''} {shown}", "Remove it.")
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        raise BadValue(f"lies outside of the picture of {width} x {height} pixels {shown}", _PIXELS)
    beyond = max(-left, -top, right - width, bottom - height)
    if beyond > OVERHANG:
        reason = f"reaches {beyond:.4g} pixels beyond the picture of {width} x {height} pixels {shown}"
        raise BadValue(reason, _PIXELS)
    edges = max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))
    if min(edges[2] - edges[0], edges[3] - edges[1]) < _THINNEST:
        raise BadValue(f"has no area inside of the picture of {width} x {height} pixels {shown}", _PIXELS)
    return Box(label, *(edges if upright else picture.turn(edges)))


def overhangs(annotation: Annotation, picture: Measured) -> int:
    """Return how many boxes of a picture that could be read reach a little beyond its edge."""
    width, height = picture.width, picture.height
    if _stated(annotation) == (picture.stored_width, picture.stored_height):
        width, height = picture.stored_width, picture.stored_height
    scales = (width, height) if annotation.relative else (1, 1)
    count = 0
    for drawn in annotation.boxes:
        left, top, right, bottom = (float(edge) * scales[at % 2] for at, edge in enumerate(drawn.edges))
        count += max(-left, -top, right - width, bottom - height) > _ROUNDING
    return count


def _stated(annotation: Annotation) -> tuple[int, int] | None:
    """Return the size that the annotation states; None where it states none, or 0 as some tools do. Raises BadValue."""
    if annotation.size is None or not any(annotation.size):
        return None
    try:
        width, height = (int(float(value)) for value in annotation.size)
    except (TypeError, ValueError, OverflowError):
        found = " x ".join(excerpt(value, 20) for value in annotation.size)
        reason = f"has an annotation ('{excerpt(annotation.member, 80)}') whose size is no number: {found}"
        raise BadValue(reason, "Write the picture's width and height in pixels, or leave them out.") from None
    return (width, height) if width and height else None


def _number(side: str, value: Any, limits: Limits) -> float:
    try:
        return cells.number(value, limits)
    except BadValue as error:
        raise BadValue(f"has a {side} edge that {error.reason}", error.mend) from None
