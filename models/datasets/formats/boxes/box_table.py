"""A table with a row per box: `filename, width, height, class, xmin, ymin, xmax, ymax`, or what others call these.

Rows of one picture need not stand together. A row with a file and nothing else is a picture without boxes. Edges that
are all between 0 and 1, or a twentieth beyond, are shares of the picture's sides.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.datasets import numerals
from models.datasets.formats.boxes import splits
from models.datasets.formats.boxes.annotation import Annotated, Annotation
from models.datasets.formats.boxes.by_picture import BoxesByPicture
from models.datasets.formats.boxes.pairing import Pictures
from models.datasets.formats.delimited import CSV
from models.datasets.formats.format import Format, Row
from models.datasets.formats.json_lines import JSONL
from models.datasets.formats.zip_members import Archive, Member
from models.datasets.limits import Limits
from models.datasets.problems import BadValue, Problem, excerpt

_FORMATS: dict[str, Format] = {".csv": CSV, ".tsv": CSV, ".jsonl": JSONL, ".ndjson": JSONL}
_FILE = ("filename", "file_name", "file", "filepath", "file_path", "path", "image", "image_name", "image_path",
         "image_id", "imageid", "img", "img_path", "picture")  # fmt: skip
_LABEL = ("class", "label", "category", "class_name", "classname", "label_name", "labelname", "category_name", "name",
          "object")  # fmt: skip
_CORNERS = (
    ("xmin", "x_min", "left", "x1", "x0", "xtl"),
    ("ymin", "y_min", "top", "y1", "y0", "ytl"),
    ("xmax", "x_max", "right", "x2", "xbr"),
    ("ymax", "y_max", "bottom", "y2", "ybr"),
)
# The same by a corner and the size: names that mean a box and nothing else.
_SIZED = (
    ("bbox_x", "box_x", "bbox_left"),
    ("bbox_y", "box_y", "bbox_top"),
    ("bbox_width", "box_width", "bbox_w"),
    ("bbox_height", "box_height", "bbox_h"),
)
_SIZES = (("width", "image_width", "img_width"), ("height", "image_height", "img_height"))
_EDGES = ("left", "top", "right", "bottom")
_BOX = "Write the four edges of the box in pixels, or leave the label and all of them empty if there is no box."


class TableSource:
    """The tables of an archive whose columns are those of boxes."""

    kind = "a table of boxes"

    def __init__(self, archive: Archive, tables: list[Member]) -> None:
        self._archive = archive
        self._pictures = Pictures(archive.members)
        self.members, self.left_out = splits.without_tests(tables, by_name=True)
        self._sizes: dict[int, tuple[Any, Any]] = {}

    @classmethod
    def find(cls, archive: Archive) -> TableSource | None:
        """Return the tables that have a row per box; None if there are none."""
        tables = [member for member in archive.members if member.suffix in _FORMATS]
        found = [member for member in tables if columns_of(archive, member)]
        return cls(archive, found) if found else None

    def check(self, limits: Limits) -> None:
        """Refuse a table as a whole: in another encoding than UTF-8, without an end of its header."""
        for member in self.members:
            with _unpacked(self._archive, member) as path:
                if isinstance(path, Path):
                    _FORMATS[member.suffix].check(path, member.name, limits)

    def annotations(self) -> Iterator[Annotated | Problem]:
        """Yield the pictures in the order in which they are first named."""
        for member in self.members:
            boxes = BoxesByPicture()
            sizes: dict[int, tuple[Any, Any]] = {}
            yield from self._read(member, boxes, sizes)
            labels: dict[int, object] = {number: key for key, number in boxes.labels.items()}
            grouped = boxes.grouped(labels, "row")
            shares = grouped.are_shares()
            for key, number in boxes.pictures.items():
                drawn = grouped.of(number)
                try:
                    picture = self._pictures.named(key, member)
                except BadValue as error:
                    line = drawn[0].line if drawn else None
                    yield Problem(None, line, None, error.reason, error.mend, member.name)
                    continue
                yield Annotated(picture, Annotation(member.name, drawn, sizes[number], relative=shares))

    def remarks(self) -> list[dict[str, Any]]:
        """Return no warnings: every row is read."""
        return []

    def _read(self, member: Member, boxes: BoxesByPicture, sizes: dict[int, tuple[Any, Any]]) -> Iterator[Problem]:
        with _unpacked(self._archive, member) as path:
            if isinstance(path, Problem):
                yield path
                return
            table = _FORMATS[member.suffix]
            for row in table.rows(path, _columns(table.columns(path))):
                if isinstance(row, Problem):
                    yield Problem(row.row, row.line, row.column, row.reason, row.mend, member.name)
                    continue
                try:
                    _add(row, boxes, sizes)
                except BadValue as error:
                    yield Problem(row.number, row.line, None, error.reason, error.mend, member.name)


def columns_of(archive: Archive, member: Member) -> dict[str, str]:
    """Return the columns of a table that has a row per box; empty for another."""
    with _unpacked(archive, member) as path:
        try:
            return {} if isinstance(path, Problem) else _columns(_FORMATS[member.suffix].columns(path))
        except UnicodeDecodeError:  # the check of a zip's table says so
            return {}


def _columns(found: list[str]) -> dict[str, str]:
    """Return the table's own names of the columns `file`, `label`, the four edges (or sizes), `width` and `height`."""
    plain = {name.strip().casefold(): name for name in reversed(found)}

    def own(names: tuple[str, ...]) -> str:
        return next((plain[name] for name in names if name in plain), "")

    needed = {"file": own(_FILE), "label": own(_LABEL)}
    corners = {edge: own(names) for edge, names in zip(_EDGES, _CORNERS, strict=True)}
    sized = {edge: own(names) for edge, names in zip(("left", "top", "wide", "high"), _SIZED, strict=True)}
    edges = corners if all(corners.values()) else sized
    if not all((*needed.values(), *edges.values())):
        return {}
    sizes = {name: own(names) for name, names in zip(("width", "height"), _SIZES, strict=True)}
    return {**needed, **edges, **(sizes if all(sizes.values()) else {})}


def _add(row: Row, boxes: BoxesByPicture, sizes: dict[int, tuple[Any, Any]]) -> None:
    """Keep the box of one row. Raises BadValue."""
    values, file = row.values, row.values.get("file")
    if not isinstance(file, str) or not file.strip():
        raise BadValue("names no picture", "Write the name that the picture has in the archive.")
    picture = boxes.picture(file.strip())
    sizes.setdefault(picture, (values.get("width"), values.get("height")))
    names = [name for name in ("left", "top", "right", "bottom", "wide", "high") if name in values]
    if all(values[name] in (None, "") for name in (*names, "label")):
        return
    left, top, third, fourth = (_number(name, values[name]) for name in names)
    sized = "wide" in values
    edges = (left, top, left + third, top + fourth) if sized else (left, top, third, fourth)
    label = values.get("label")
    if not isinstance(label, str | int | float | None):
        raise BadValue(f"has the label {excerpt(label, 40)}", "Write it as a text.")
    boxes.add(picture, boxes.label(label), edges, row.number, row.line or 0)


def _number(name: str, value: Any) -> float:
    what = {"wide": "width", "high": "height"}.get(name, f"{name} edge")
    if value in (None, ""):
        raise BadValue(f"has no {what}", _BOX)
    try:
        if isinstance(value, str):
            return numerals.parse(value)
        return float(value) if isinstance(value, int | float) else float("x")
    except (ValueError, OverflowError):
        raise BadValue(f"has a {what} that is no number: {excerpt(value, 40)}", _BOX) from None


@contextmanager
def _unpacked(archive: Archive, member: Member) -> Iterator[Path | Problem]:
    """Unpack a table into a file of its own, which exists as long as it is read."""
    with tempfile.TemporaryDirectory(prefix="graft-table-") as folder:
        path = Path(folder) / "table"
        try:
            with path.open("wb") as file:
                for chunk in archive.chunks(member):
                    file.write(chunk)
        except BadValue as error:
            yield Problem(None, None, None, error.reason, error.mend, member.name)
            return
        yield path
