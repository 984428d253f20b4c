"""Archives of small pictures with boxes, in each of the formats that are read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from models.datasets.examples import Box
from tests.models.datasets.media_files import archive, picture

SIZE = (40, 30)
# Six pictures of 40 x 30 pixels; the last shows nothing.
BOXES: dict[str, tuple[Box, ...]] = {
    "a.jpg": (Box("cat", 2, 3, 20, 25), Box("dog", 10, 10, 40, 30)),
    "b.jpg": (Box("dog", 0, 0, 8, 9),),
    "c.jpg": (Box("cat", 5, 5, 30, 20),),
    "d.jpg": (Box("cat", 1, 1, 11, 11), Box("cat", 20, 10, 30, 22)),
    "e.jpg": (Box("dog", 8, 6, 24, 18),),
    "f.jpg": (),
}
CLASSES = ("cat", "dog")


def pictures(folder: str = "", boxes: Mapping[str, Any] = BOXES) -> dict[str, bytes]:
    """The pictures' bytes by name, one seed each."""
    return {folder + name: picture(size=SIZE, seed=ord(name[0])) for name in boxes}


def coco(boxes: Mapping[str, Sequence[Box]] = BOXES, **changes: Any) -> bytes:
    """A COCO document of the boxes; `changes` replace its lists, functions of a list change it in place."""
    document: dict[str, Any] = {
        "info": {"year": 2024, "note": 'a { and a ] and a \\"'},
        "images": [
            {"id": number, "file_name": name, "width": SIZE[0], "height": SIZE[1]} for number, name in enumerate(boxes)
        ],
        "annotations": [
            {
                "id": place,
                "image_id": number,
                "category_id": CLASSES.index(box.label) + 1,
                "bbox": [box.left, box.top, box.right - box.left, box.bottom - box.top],
                "segmentation": [[1, 2, 3, 4, 5, 6]],
                "iscrowd": 0,
            }
            for place, (number, box) in enumerate(
                (number, box) for number, several in enumerate(boxes.values()) for box in several
            )
        ],
        "categories": [{"id": number, "name": label} for number, label in enumerate(CLASSES, start=1)],
    }
    for key, change in changes.items():
        if callable(change):
            change(document[key])
        else:
            document[key] = change
    return json.dumps(document).encode()


def voc(name: str, boxes: Sequence[Box], *, size: tuple[int, int] = SIZE, head: str = "") -> bytes:
    """A VOC document of one picture."""
    objects = "\n".join(
        f"<object><name>{box.label}</name><difficult>0</difficult><bndbox>\n<xmin>{box.left}</xmin><ymin>{box.top}</ymin>"
        f"<xmax>{box.right}</xmax><ymax>{box.bottom}</ymax></bndbox></object>"
        for box in boxes
    )
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    return f"{head}<annotation><filename>{name}</filename>{sides}\n{objects}</annotation>".encode()


def yolo(boxes: Sequence[Box]) -> bytes:
    """The lines of one picture."""
    lines = [
        (
            CLASSES.index(box.label),
            (box.left + box.right) / 2 / SIZE[0],
            (box.top + box.bottom) / 2 / SIZE[1],
            (box.right - box.left) / SIZE[0],
            (box.bottom - box.top) / SIZE[1],
        )
        for box in boxes
    ]
    return "".join(" ".join(str(value) for value in line) + "\n" for line in lines).encode()


def table(
    boxes: Mapping[str, Sequence[Box]] = BOXES, *, header: str = "filename,width,height,class,xmin,ymin,xmax,ymax"
) -> bytes:
    """A CSV with a row per box, and one with a file alone for a picture without."""
    rows: list[list[object]] = []
    for name, several in boxes.items():
        rows += [[name, *SIZE, box.label, box.left, box.top, box.right, box.bottom] for box in several]
        rows += [] if several else [[name, *SIZE, "", "", "", "", ""]]
    buffer = io.StringIO()
    csv.writer(buffer).writerows([header.split(","), *rows])
    return buffer.getvalue().encode()


def coco_archive(**changes: Any) -> bytes:
    """The pictures and one COCO document."""
    return archive({**pictures(), "boxes.json": coco(**changes)})


def voc_archive(**files: bytes) -> bytes:
    """The pictures and their VOC files; `files` replace some, by the picture's name without its end."""
    documents = {f"Annotations/{name[0]}.xml": voc(name, boxes) for name, boxes in BOXES.items()}
    return archive(
        {**pictures("JPEGImages/"), **documents, **{f"Annotations/{name}.xml": data for name, data in files.items()}}
    )


def yolo_archive(names: Mapping[str, bytes] | None = None, **files: bytes) -> bytes:
    """The pictures, their YOLO files, and the classes' names; `files` replace some."""
    lines = {f"labels/{name[0]}.txt": yolo(boxes) for name, boxes in BOXES.items()}
    called = {"classes.txt": b"cat\ndog\n"} if names is None else names
    return archive(
        {**pictures("images/"), **lines, **called, **{f"labels/{name}.txt": data for name, data in files.items()}}
    )


def table_archive(content: bytes | None = None) -> bytes:
    """The pictures and a CSV."""
    return archive({**pictures("images/"), "boxes.csv": table() if content is None else content})
