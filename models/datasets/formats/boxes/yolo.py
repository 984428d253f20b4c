"""YOLO text files: one per picture, of its name, a box a line: class number, centre x and y, width, height.

Numbers are shares of the picture's width and height. An empty file says that there is nothing to be found. Six numbers
or more of a polygon stand for the box around it; keypoints behind a box are not read. The names of the classes, and
whether there are keypoints, are in the files of `yolo_names`.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any

from models.datasets import numerals
from models.datasets.formats.boxes import splits, yolo_names
from models.datasets.formats.boxes.annotation import Annotated, Annotation, DrawnBox
from models.datasets.formats.boxes.pairing import Pictures
from models.datasets.formats.boxes.yolo_names import Classes
from models.datasets.formats.zip_members import Archive, Member
from models.datasets.limits import Limits
from models.datasets.problems import BadValue, Problem, excerpt

MOST_BYTES = 2 * 2**20
_HEAD_BYTES = 2**10
_SAMPLED = 25
_LINE = (
    "Write `class x y width height`: the centre and the size, as shares of the picture's, such as 0 0.5 0.5 0.2 0.3."
)


class YoloSource:
    """The text files of an archive that are called like its pictures."""

    kind = "YOLO text files"

    def __init__(self, archive: Archive, files: list[Member]) -> None:
        self._archive = archive
        self._pictures = Pictures(archive.members)
        self.members, self.left_out = splits.without_tests(files)
        self._classes = Classes()

    @classmethod
    def find(cls, archive: Archive) -> YoloSource | None:
        """Return the archive's text files if those called like pictures hold boxes; None if not."""
        files = [member for member in archive.members if member.suffix == ".txt" and not yolo_names.is_list(member)]
        if not files:
            return None
        pictures = Pictures(archive.members)
        paired = [member for member in files if pictures.has_beside(member)]
        sample = paired[:: max(1, len(paired) // _SAMPLED)]
        if not any(_begins_with_a_box(archive, member) for member in sample):
            return None
        called = {member.name for member in paired}
        return cls(archive, [each for each in files if each.name in called or _begins_with_a_box(archive, each)])

    def check(self, limits: Limits) -> None:
        """Refuse nothing: what is wrong with a file is said when it is read."""

    def annotations(self) -> Iterator[Annotated | Problem]:
        """Yield the pictures in the order of their files."""
        try:
            self._classes = yolo_names.read(self._archive)
        except BadValue as error:
            yield Problem(None, None, None, error.reason, error.mend)
            return
        for member in self.members:
            try:
                picture = self._pictures.beside(member)
                if picture is None:
                    raise BadValue("is called like no picture in the archive", "Add the picture, or remove the file.")
                lines = _lines(self._archive, member)
            except BadValue as error:
                yield Problem(None, None, None, error.reason, error.mend, member.name)
                continue
            boxes: list[DrawnBox] = []
            problems: list[Problem] = []
            for number, line in lines:
                try:
                    boxes.append(_box(line, number, self._classes))
                except BadValue as error:
                    problems.append(Problem(None, number, None, error.reason, error.mend, member.name))
            yield from problems
            if not problems:
                yield Annotated(picture, Annotation(member.name, tuple(boxes), relative=True))

    def remarks(self) -> list[dict[str, Any]]:
        """Return warnings of keypoints, and of classes that have numbers only."""
        found: list[dict[str, Any]] = []
        if self._classes.keypoint_values:
            message = "Keypoints (`kpt_shape`) are not read: boxes are learned."
            found.append({"code": "keypoints_not_read", "message": message})
        if not self._classes.source:
            message = (
                "The archive names no classes: labels are their numbers. Add a classes.txt with one name per line, or "
                "data.yaml."
            )
            found.append({"code": "class_numbers", "message": message})
        return found


def _lines(archive: Archive, member: Member) -> Iterable[tuple[int, str]]:
    """Return the numbers and texts of the lines that are not blank. Raises BadValue."""
    if member.info.file_size > MOST_BYTES:
        reason = f"has {member.info.file_size} bytes; the limit is {MOST_BYTES}"
        raise BadValue(reason, "One picture has fewer boxes than that: is it a file of another kind?")
    try:
        text = archive.read(member).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadValue("is not UTF-8", "Save it as UTF-8.") from None
    return ((number, line) for number, line in enumerate(io.StringIO(text), start=1) if line.strip())


def _box(line: str, number: int, classes: Classes) -> DrawnBox:
    fields, keypoint_values = line.split(maxsplit=10_000), classes.keypoint_values
    if keypoint_values and len(fields) not in (5, 5 + keypoint_values):
        reason = f"has {len(fields)} values where a box with its keypoints has {5 + keypoint_values}"
        raise BadValue(reason, "Write the keypoints as `kpt_shape` has them, or the box alone.")
    polygon = not keypoint_values and len(fields) >= 7 and len(fields) % 2 == 1
    if len(fields) != 5 and not polygon and not keypoint_values:
        raise BadValue(f"has {len(fields)} value{'s' if len(fields) > 1 else ''} where a box has 5", _LINE)
    label = _label(fields[0], classes)
    values = [_number(field) for field in fields[1:]]
    if polygon:
        xs, ys = values[::2], values[1::2]
        edges = min(xs), min(ys), max(xs), max(ys)
    else:
        x, y, width, height = values[:4]
        edges = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return DrawnBox(label, edges, "the box", number)


def _label(field: str, classes: Classes) -> str:
    try:
        number = int(field) if len(field) <= 20 and "_" not in field else -1
    except ValueError:
        number = -1
    if number < 0:
        raise BadValue(f"has the class {excerpt(field, 40)}, which is no whole number from 0", _LINE)
    names = classes.names
    if not names:
        return str(number)
    if number not in names:
        known = f"{min(names)} to {max(names)}"
        raise BadValue(
            f"has the class {number}; '{excerpt(classes.source, 80)}' names {known}", "Add its name, or correct it."
        )
    return names[number]


def _number(field: str) -> float:
    try:
        return numerals.parse(field)
    except ValueError:
        raise BadValue(f"has {excerpt(field, 40)}, which is no number", _LINE) from None


def _begins_with_a_box(archive: Archive, member: Member) -> bool:
    """Return whether the first line that is not blank is five numbers or more."""
    head = archive.head(member, _HEAD_BYTES).decode("utf-8-sig", errors="replace").split("\n")
    fields = next((line.split() for line in head if line.strip()), [])
    try:
        return len([numerals.parse(field) for field in fields[:5]]) == 5
    except ValueError:
        return False
