"""An archive of pictures with boxes as rows: which files say where boxes are, and the pictures one after another."""

from __future__ import annotations

from collections.abc import Collection, Generator
from typing import Any

from models.datasets.errors import SeveralAnnotations
from models.datasets.examples import Media
from models.datasets.formats.boxes.annotation import BoxSource
from models.datasets.formats.boxes.box_table import TableSource
from models.datasets.formats.boxes.coco import CocoSource
from models.datasets.formats.boxes.pairing import Pictures
from models.datasets.formats.boxes.splits import split_of
from models.datasets.formats.boxes.voc import VocSource
from models.datasets.formats.boxes.yolo import YoloSource
from models.datasets.formats.format import Row
from models.datasets.formats.zip_members import Archive, Member
from models.datasets.problems import BadValue, Problem, excerpt

COLUMNS = ("image", "boxes")
_SOURCES = (CocoSource, VocSource, YoloSource, TableSource)
_SHOWN = 3


def find(archive: Archive) -> BoxSource | None:
    """Return the annotation files of an archive; None if it holds none. Raises SeveralAnnotations."""
    found: list[BoxSource] = [source for kind in _SOURCES if (source := kind.find(archive)) is not None]
    if len(found) > 1:
        kinds = " and ".join(f"{source.kind} ('{excerpt(source.members[0].name, 80)}')" for source in found[:2])
        raise SeveralAnnotations(kinds=kinds)
    return found[0] if found else None


def rows(
    archive: Archive, source: BoxSource, columns: dict[str, str]
) -> Generator[Row | Problem, None, Collection[str]]:
    """Yield a row per picture, numbered in the order of the annotations; a picture is unpacked when its turn comes.

    Return the names of the pictures that the annotations name.
    """
    seen: dict[str, str] = {}
    number = 0
    for item in source.annotations():
        if isinstance(item, Problem):
            yield item
            continue
        number += 1
        picture, annotation = item.picture, item.annotation
        try:
            if (first := seen.setdefault(picture.name, annotation.member)) and len(seen) < number:
                where = f"'{excerpt(annotation.member, 80)}'"
                where += " twice" if first == annotation.member else f", and by '{excerpt(first, 80)}'"
                raise BadValue(f"is named by {where}", "Name every picture once, with all of its boxes.")
            media = Media(picture.name, archive.read(picture))
        except BadValue as error:
            yield Problem(number, None, "image", error.reason, error.mend, picture.name)
            continue
        values = {"image": media, "boxes": annotation}
        yield Row(number, None, {name: values.get(own) for name, own in columns.items()}, picture.name)
    return seen.keys()


def remarks(archive: Archive, source: BoxSource, named: Collection[str]) -> list[dict[str, Any]]:
    """Return warnings of what the archive holds and is not read, and of splits that are read as one set.

    `named`: the pictures that its annotations name; the source was read to its end.
    """
    tests = bool(source.left_out)
    pictures = [
        member
        for member in Pictures(archive.members).members
        if member.name not in named and not (tests and split_of(member) == "test")
    ]
    return [*source.remarks(), *_tests(source), *_joined(source), *_unnamed(pictures)]


def _tests(source: BoxSource) -> list[dict[str, Any]]:
    if not source.left_out:
        return []
    message = (
        f"{_listed(source.left_out)}: left out, as a split for tests. To score on it, upload it as a file of its own "
        "with purpose 'validation'."
    )
    return [{"code": "test_split_left_out", "message": message, "count": len(source.left_out)}]


def _joined(source: BoxSource) -> list[dict[str, Any]]:
    found = {split_of(member, by_name=True) for member in source.members}
    if not {"train", "valid"} <= found:
        return []
    message = (
        "The splits to train and to validate with are read as one set; Graft holds pictures out by itself. To score on "
        "the second, upload it as a file of its own with purpose 'validation'."
    )
    return [{"code": "splits_joined", "message": message}]


def _unnamed(pictures: list[Member]) -> list[dict[str, Any]]:
    if not pictures:
        return []
    verb = "is" if len(pictures) == 1 else "are"
    message = (
        f"{_listed(pictures)}: named by no annotation that is read, and {verb} not used. A picture that shows nothing "
        "to be found needs an annotation without boxes."
    )
    return [{"code": "pictures_without_annotation", "message": message, "count": len(pictures)}]


def _listed(members: list[Member]) -> str:
    names = ", ".join(f"'{excerpt(member.name, 60)}'" for member in members[:_SHOWN])
    return names + (f" and {len(members) - _SHOWN} more" if len(members) > _SHOWN else "")
