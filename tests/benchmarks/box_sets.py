"""Public pictures with boxes, zipped as their users would send them; a row has its picture's path and its boxes."""

from __future__ import annotations

import csv
import re
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests.benchmarks import public_data
from tests.benchmarks.task_sets import Row, TaskSet

TASK = "object-detection"
# BCCD has two boxes without a width, which an upload refuses.
_EMPTY = re.compile(
    r"<object>(?:(?!</object>).)*?<xmin>(\d+)</xmin>(?:(?!</object>).)*?<xmax>\1</xmax>.*?</object>", re.DOTALL
)


@dataclass(frozen=True)
class BoxSet(TaskSet):
    """`pack` writes the pictures to train on and their annotation files."""

    pack: Callable[[zipfile.ZipFile, list[Row]], None]

    def write(self, folder: Path) -> Path:
        """The zip that is uploaded."""
        path = folder / "train.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            self.pack(archive, self.train)
        return path


def raccoon() -> BoxSet:
    """Raccoons: the official 160 pictures to train on and 40 to test with; a CSV of boxes."""
    folder = public_data.folder() / "data" / "raccoon_det"

    def rows(split: str) -> list[Row]:
        found: dict[str, list[dict[str, Any]]] = {}
        with (folder / f"{split}_labels.csv").open(newline="") as file:
            for line in csv.DictReader(file):
                found.setdefault(line["filename"], []).append(
                    _box(line["class"], (line[name] for name in ("xmin", "ymin", "xmax", "ymax")))
                )
        return [{"image": str(folder / "images" / name), "boxes": boxes} for name, boxes in found.items()]

    def pack(archive: zipfile.ZipFile, train: list[Row]) -> None:
        for row in train:
            archive.write(row["image"], f"images/{Path(row['image']).name}")
        names = {Path(row["image"]).name for row in train}
        header, *lines = (folder / "train_labels.csv").read_text().splitlines()
        archive.writestr("labels.csv", "\n".join([header, *(line for line in lines if line.split(",")[0] in names)]))

    return BoxSet(TASK, rows("train"), rows("test"), pack)


def bccd() -> BoxSet:
    """Three kinds of blood cells: the official lists `trainval` and `test`; Pascal VOC XML."""
    folder = public_data.folder() / "data" / "bccd_det"

    def rows(split: str) -> list[Row]:
        names = (folder / "ImageSets" / "Main" / f"{split}.txt").read_text().split()
        return [{"image": str(folder / "JPEGImages" / f"{name}.jpg"), "boxes": _voc(folder, name)} for name in names]

    def pack(archive: zipfile.ZipFile, train: list[Row]) -> None:
        for row in train:
            name = Path(row["image"]).stem
            archive.write(row["image"], f"JPEGImages/{name}.jpg")
            archive.writestr(f"Annotations/{name}.xml", _mended(folder, name))

    return BoxSet(TASK, rows("trainval"), rows("test"), pack)


def _voc(folder: Path, name: str) -> list[dict[str, Any]]:
    objects = ElementTree.fromstring(_mended(folder, name)).iter("object")  # noqa: S314  (a public set, on this disk)
    return [
        _box(found.findtext("name"), (found.findtext(f"bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax")))
        for found in objects
    ]


def _mended(folder: Path, name: str) -> str:
    return _EMPTY.sub("", (folder / "Annotations" / f"{name}.xml").read_text())


def _box(label: str | None, edges: Iterable[str | None]) -> dict[str, Any]:
    sides = zip(("left", "top", "right", "bottom"), edges, strict=True)
    return {"label": label, "box": {side: float(edge or "nan") for side, edge in sides}}
