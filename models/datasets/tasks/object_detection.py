"""object-detection: a picture, and the boxes around what is to be found in it, each with a label; or none.

The cell `boxes` is what the file's format makes of it: an `Annotation`, as `formats.boxes` reads it from an archive.
"""

from __future__ import annotations

from typing import Any

from models.datasets.errors import NoBoxes
from models.datasets.examples import Box, Example
from models.datasets.formats.boxes.annotation import Annotation
from models.datasets.formats.format import Row
from models.datasets.limits import UNLIMITED, Limits
from models.datasets.media import pictures
from models.datasets.problems import BadValue, Problem, excerpt
from models.datasets.tasks import cells, drawn_boxes
from models.datasets.tasks.media_labels import NO_MEDIA, MediaStatistics, take_media, verify_media
from models.datasets.tasks.task import Remark, Task

NAME = "object-detection"


class BoxStatistics(MediaStatistics):
    """Counts pictures per label, and how much there is to decode."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits, "image", labels_of=_labels_of, column="boxes", minimum=1)

    def check(self) -> None:
        """Check that there is a box at all, and labels with enough pictures."""
        if not self.labels:
            raise NoBoxes(rows=self.rows)
        super().check()


def parse(row: Row, limits: Limits) -> Example | list[Problem]:
    """Return the example of a row with `image` and `boxes`, or everything that is wrong with its boxes.

    A box that repeats another one of the picture, label and borders, is the same thing marked twice: it is read once.
    """
    taken = cells.Cells(row, limits)
    picture = taken.take("image", take_media("image", row.number), NO_MEDIA)
    annotation = taken.take("boxes", _annotation, Annotation("", ()))
    if taken.problems:
        return taken.problems
    try:
        measured = pictures.measure(picture.data, picture.name, limits)
        upright = drawn_boxes.stored_upright(annotation, measured)
    except BadValue as error:
        return [Problem(row.number, None, "image", error.reason, error.mend, picture.name)]
    boxes: list[Box] = []
    problems: list[Problem] = []
    for drawn in annotation.boxes:
        try:
            boxes.append(drawn_boxes.read_box(drawn, annotation, measured, upright, limits))
        except BadValue as error:
            reason = f"{drawn.place} of '{excerpt(picture.name, 80)}' {error.reason}"
            problems.append(Problem(row.number, drawn.line, "boxes", reason, error.mend, annotation.member))
    return problems or Example(picture, tuple(dict.fromkeys(boxes)), row.number)


def remarks(row: Row, example: Example) -> list[Remark]:
    """Return what was mended in a row: boxes that reach a little beyond the picture, and boxes that are there twice."""
    picture, annotation = row.values["image"], row.values["boxes"]
    found = []
    if drawn_boxes.overhangs(annotation, pictures.measure(picture.data, picture.name, UNLIMITED)):
        most = f"up to {drawn_boxes.OVERHANG:g} pixels"
        found.append(Remark(f"Boxes that reach {most} beyond the picture's edge are cut off there"))
    if isinstance(example.target, tuple) and len(example.target) < len(annotation.boxes):
        found.append(Remark("Boxes that are there twice, with the same label and the same borders, are read once"))
    return found


def _annotation(value: Any, limits: Limits) -> Annotation:
    if not isinstance(value, Annotation):
        reason = f"is {cells.kind(value)} where a picture's boxes are expected"
        raise BadValue(reason, "Upload a zip of the pictures with COCO JSON, Pascal VOC XML, YOLO files or a CSV.")
    if len(value.boxes) > limits.max_boxes:
        reason = f"has {len(value.boxes)} boxes; the limit is {limits.max_boxes}"
        raise BadValue(reason, "Cut the picture into tiles with fewer boxes each.")
    return value


def _labels_of(example: Example) -> tuple[str, ...]:
    assert isinstance(example.target, tuple)  # noqa: S101  (what parse() makes)
    return tuple(dict.fromkeys(box.label for box in example.target if isinstance(box, Box)))


OBJECT_DETECTION = Task(
    NAME,
    "image",
    "detection",
    (("image", "boxes"),),
    parse,
    BoxStatistics,
    verify=verify_media("image"),
    remarks=remarks,
    noun="picture",
    target="boxes",
)
