"""COCO JSON: `images`, `annotations` with `bbox` [left, top, width, height] in pixels from 0, and `categories`.

An archive may hold several documents, one per split; ids count within their document. Groups (`iscrowd`) are left out,
masks and key points are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from models.datasets.formats.boxes import json_arrays, splits
from models.datasets.formats.boxes.annotation import Annotated, Annotation
from models.datasets.formats.boxes.by_picture import BoxesByPicture
from models.datasets.formats.boxes.pairing import Pictures
from models.datasets.formats.zip_members import Archive, Member
from models.datasets.limits import Limits
from models.datasets.problems import BadValue, Problem, excerpt

_HEAD_BYTES = 64 * 2**10
_KEYS = frozenset(("images", "annotations", "categories"))
_FOUND = re.compile(rb'"(images|annotations)"\s*:\s*\[')
_PERHAPS = re.compile(rb'"categories"\s*:\s*\[')
_BBOX = 'Write "bbox": [left, top, width, height], four numbers in pixels, or remove the annotation.'


class CocoSource:
    """The COCO documents of an archive."""

    kind = "COCO JSON"

    def __init__(self, archive: Archive, documents: list[Member]) -> None:
        self._archive = archive
        self._pictures = Pictures(archive.members)
        self.members, self.left_out = splits.without_tests(documents, by_name=True)
        self._crowds = 0

    @classmethod
    def find(cls, archive: Archive) -> CocoSource | None:
        """Return the documents that are COCO's; None if there are none."""
        found = [member for member in archive.members if member.suffix == ".json" and _is_coco(archive, member)]
        return cls(archive, found) if found else None

    def check(self, limits: Limits) -> None:
        """Refuse nothing: what is wrong with a file is said when it is read."""

    def annotations(self) -> Iterator[Annotated | Problem]:
        """Yield the pictures of `images` in their order."""
        self._crowds = 0
        for member in self.members:
            document = _Document(member)
            try:
                yield from document.read(self._archive)
            except BadValue as error:
                yield Problem(None, None, None, error.reason, error.mend, member.name)
                continue
            self._crowds += document.crowds
            yield from document.pictures(self._pictures)

    def remarks(self) -> list[dict[str, Any]]:
        """Return a warning of the groups that are left out."""
        if not self._crowds:
            return []
        message = f"{self._crowds} annotations mark groups of things (iscrowd) and are left out."
        return [{"code": "groups_left_out", "message": message, "count": self._crowds}]


class _Document:
    """One document: its pictures and categories, and its boxes in arrays."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._boxes = BoxesByPicture()
        self._images: dict[int, tuple[Any, Any, Any, int]] = {}  # file_name, width, height, position
        self._names: dict[int, object] = {}
        self._unlisted: dict[int, int] = {}  # annotations by picture's number that no image may turn out to have
        self.crowds = 0

    def read(self, archive: Archive) -> Iterator[Problem]:
        """Read it whole; yield what is wrong with single entries. Raises BadValue where it is no JSON."""
        take = {"images": self._take_image, "categories": self._take_category, "annotations": self._take_annotation}
        for key, position, entry in json_arrays.elements(archive.chunks(self._member), _KEYS):
            try:
                if not isinstance(entry, dict):
                    raise BadValue(f"is {excerpt(entry, 40)} where an object is expected", "Write an object, or none.")
                take[key](position, entry)
            except BadValue as error:
                yield self._problem(f"{_ENTRIES[key]} {position} {error.reason}", error.mend)

    def pictures(self, pictures: Pictures) -> Iterator[Annotated | Problem]:
        """Yield every picture that is listed, with its boxes, and what names none."""
        names = {number: self._names.get(number, _Unlisted(key)) for key, number in self._boxes.labels.items()}
        grouped = self._boxes.grouped(names, "annotation")
        for number, (name, width, height, position) in self._images.items():
            boxes = grouped.of(number)
            unlisted = [box for box in boxes if isinstance(box.label, _Unlisted)]
            for box in unlisted:
                reason = f"{box.place} has the category {box.label}, which `categories` does not list"
                yield self._problem(reason, "Add it to `categories` with its name, or correct the number.")
            try:
                picture = pictures.named(name, self._member)
            except BadValue as error:
                yield self._problem(f"image {position} {error.reason}", error.mend)
                continue
            if not unlisted:
                yield Annotated(picture, Annotation(self._member.name, boxes, (width, height)))
        for key, number in self._boxes.pictures.items():
            if number not in self._images:
                for box in grouped.of(number):
                    reason = f"{box.place} is about the image {key}, which `images` does not list"
                    yield self._problem(reason, "Add it to `images` with its file_name, or correct the number.")

    def _take_image(self, position: int, entry: dict[str, Any]) -> None:
        number = self._boxes.picture(_id(entry.get("id"), "id"))
        if number in self._images:
            first = self._images[number][3]
            raise BadValue(f"has the id {excerpt(entry['id'], 40)}, as image {first}", "Number images apart.")
        self._images[number] = (entry.get("file_name"), entry.get("width"), entry.get("height"), position)

    def _take_category(self, position: int, entry: dict[str, Any]) -> None:  # noqa: ARG002  (as the others)
        number = self._boxes.label(_id(entry.get("id"), "id"))
        name = entry.get("name")
        if self._names.setdefault(number, name) != name:
            first = excerpt(self._names[number], 40)
            reason = f"has the id {excerpt(entry['id'], 40)}, as '{first}'"
            raise BadValue(reason, "Number categories apart.")

    def _take_annotation(self, position: int, entry: dict[str, Any]) -> None:
        if entry.get("iscrowd") in (1, True):
            self.crowds += 1
            return
        bbox = entry.get("bbox")
        if not isinstance(bbox, list) or len(bbox) != 4:
            found = "no bbox" if bbox is None else f"the bbox {excerpt(bbox)}"
            raise BadValue(f"has {found}", _BBOX)
        left, top, width, height = (_number(value) for value in bbox)
        picture = self._boxes.picture(_id(entry.get("image_id"), "image_id"))
        label = self._boxes.label(_id(entry.get("category_id"), "category_id"))
        self._boxes.add(picture, label, (left, top, left + width, top + height), position, 0)

    def _problem(self, reason: str, mend: str) -> Problem:
        return Problem(None, None, None, reason, mend, self._member.name)


class _Unlisted:
    """Stands for the name of a category that is not there."""

    def __init__(self, key: object) -> None:
        self._key = key

    def __str__(self) -> str:
        return excerpt(self._key, 40)


_ENTRIES = {"images": "image", "categories": "category", "annotations": "annotation"}


def _is_coco(archive: Archive, member: Member) -> bool:
    head = archive.head(member, _HEAD_BYTES)
    if _FOUND.search(head):
        return True
    if not _PERHAPS.search(head):
        return False
    try:  # long categories first
        found = json_arrays.elements(archive.chunks(member), _KEYS)
        return any(key != "categories" for key, _, _ in found)
    except BadValue:
        return True  # reading it will say why


def _id(value: Any, name: str) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        found = f"no {name}" if value is None else f"the {name} {excerpt(value, 40)}"
        raise BadValue(f"has {found}", "Write a number or a text that no other has.")
    return excerpt(value, 100)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadValue(f"has a bbox with {excerpt(value, 40)}, which is no number", _BBOX)
    try:
        return float(value)
    except OverflowError:
        raise BadValue("has a bbox with a number that is far too large", _BBOX) from None
