"""`graft predict --draw`: the boxes that a detector found, drawn into the picture with their labels and scores."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from deploy.cli.errors import CommandError
from deploy.cli.input_files import InputFile
from models.datasets.limits import UNLIMITED
from models.datasets.media import pictures
from models.datasets.problems import BadValue

TASK = "object-detection"
# Parts of a circle by which the hues of neighbouring labels differ: the golden ratio never comes back to one.
_HUE_STEP = 0.618034


@dataclass(frozen=True, slots=True)
class Box:
    """What was found where, in pixels from the upper left corner."""

    label: str
    score: float
    left: float
    top: float
    right: float
    bottom: float


def check(target: Path, model: str, task: str, files: Sequence[InputFile]) -> None:
    """Raise CommandError where nothing can be drawn: another task, several pictures, a target that is no picture."""
    if task != TASK:
        raise CommandError(reason=f"--draw draws the boxes of {TASK}, and '{model}' is for {task}.")
    if len(files) != 1:
        raise CommandError(reason=f"--draw takes one picture, and there are {len(files)}: ask about one at a time.")
    if target.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise CommandError(reason=f"--draw writes .png, .jpg or .webp; got {target}.")
    if not target.parent.is_dir():
        raise CommandError(reason=f"There is no folder {target.parent}.")


def write(target: Path, file: InputFile, prediction: dict[str, Any]) -> None:
    """Draw the boxes of a prediction into the picture and write it. Raises CommandError."""
    with file.open() as content:
        data = content.read()
    try:
        picture = pictures.decode(data, file.name, UNLIMITED)  # upright, as the server reads it
        draw(picture, boxes_of(prediction)).save(target)
    except BadValue as error:
        raise CommandError(reason=f"{file.name} {error.reason}. {error.mend}") from None
    except OSError as error:
        raise CommandError(reason=f"{target} cannot be written: {error.strerror or error}.") from None


def boxes_of(prediction: dict[str, Any]) -> list[Box]:
    """Return the boxes of one prediction of a detector."""
    sides = ("left", "top", "right", "bottom")
    return [
        Box(str(found["label"]), float(found["score"]), *(float(found["box"][side]) for side in sides))
        for found in prediction["boxes"]
    ]


def draw(picture: Image.Image, boxes: Sequence[Box]) -> Image.Image:
    """Return a copy of the picture with the boxes in it, one colour per label, the most certain on top."""
    drawn = picture.convert("RGB")
    pen = _Pen(drawn)
    labels = sorted({box.label for box in boxes})
    for box in sorted(boxes, key=lambda box: box.score):
        pen.draw(box, _colour(labels.index(box.label)))
    return drawn


class _Pen:
    """Draws boxes into one picture, lines and letters in proportion to its size."""

    def __init__(self, picture: Image.Image) -> None:
        self._pen = ImageDraw.Draw(picture)
        self._wide, self._high = picture.size
        side = max(picture.size)
        self._line, self._font = max(2, side // 300), ImageFont.load_default(max(11, side // 45))

    def draw(self, box: Box, colour: tuple[int, int, int]) -> None:
        # A box may reach beyond the picture; sides in the wrong order would be refused by Pillow.
        left, right = (min(max(x, 0), self._wide - 1) for x in (box.left, box.right))
        top, bottom = (min(max(y, 0), self._high - 1) for y in (box.top, box.bottom))
        self._pen.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=self._line)
        text = f"{box.label} {box.score:.2f}"
        x0, y0, x1, y1 = self._pen.textbbox((0, 0), text, font=self._font)
        wide, high = x1 - x0 + 6, y1 - y0 + 6
        # Above the box where there is room, else inside of it; never beyond the right edge.
        x, y = max(0, min(left, self._wide - wide)), top - high if top >= high else top
        self._pen.rectangle((x, y, x + wide, y + high), fill=colour)
        self._pen.text((x + 3 - x0, y + 3 - y0), text, fill="black", font=self._font)


def _colour(place: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(place * _HUE_STEP % 1.0, 0.75, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)
