"""Annotations made to hurt: each is a clear error that names what is wrong, and memory stays bounded."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from models.datasets.errors import OversizedArchive, TooManyBoxes, TooManyClasses, TooManyPictures
from models.datasets.formats.boxes import by_picture
from models.datasets.limits import Limits
from tests.models.datasets.boxes.box_files import (
    BOXES,
    coco,
    coco_archive,
    pictures,
    table,
    table_archive,
    voc,
    voc_archive,
    yolo_archive,
)
from tests.models.datasets.media_files import archive, picture

MEBIBYTE = 2**20

LAUGHS = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(9))
BOMB = f'<?xml version="1.0"?><!DOCTYPE annotation [<!ENTITY l0 "lol">{LAUGHS}]>'
EXTERNAL = '<!DOCTYPE annotation [<!ENTITY secret SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize("head", [BOMB, EXTERNAL, '<!DOCTYPE annotation SYSTEM "http://192.0.2.1/x.dtd">'])
def test_entities_and_document_types_of_xml_are_refused(refusal, head):
    content = voc("b.jpg", BOXES["b.jpg"], head=head).replace(b"<name>dog", b"<name>&l9;")

    error = refusal(voc_archive(b=content))

    assert "declares a document type" in error.details[0]["reason"]
    assert error.details[0]["member"] == "Annotations/b.xml"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<annotation>" + b"<a>" * 200_000, "more than 32 elements inside each other"),
        (b"<annotation>" + b"<a/>" * 600_000 + b"</annotation>", "the limit is 2097152"),
        (b"<annotation><filename>" + b"x" * 10_000 + b"</filename></annotation>", "object"),
    ],
)
def test_xml_that_is_deep_or_long(refusal, content, reason):
    if reason == "object":  # only as much of a text is kept as a name can have
        assert refusal(voc_archive(z=content)).total == 1
    else:
        assert reason in refusal(voc_archive(b=content)).details[0]["reason"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"images": [' + b"[" * 100_000, "nested too deep"),
        (b'{"images": [], "annotations": [' + b'{"a":' * 100_000, "nested too deep"),
        (b'{"images": [{"id": ' + b"9" * 10_000 + b"}]}", "number is too long"),
        (b'{"images": [{"id": "' + b"x" * 3 * MEBIBYTE + b'"}]}', "more than 2097152 characters"),
        (b'{"images": [{"id": 1}', "is not valid JSON"),
        (b'{"images": [{"id": 1,,}]}', "is not valid JSON"),
        (b'{"images": [\xff]}', "is not UTF-8"),
        (b'{"images": []', "',' is expected"),
        (b'{"images": [] "annotations": []}', "',' is expected"),
    ],
)
def test_json_that_is_deep_long_or_broken(refusal, content, reason):
    error = refusal(archive({**pictures(), "boxes.json": content}))

    assert reason in error.details[0]["reason"]
    assert error.details[0]["member"] == "boxes.json"


def test_more_categories_images_or_boxes_than_can_be_held(refusal, monkeypatch):
    monkeypatch.setattr(by_picture, "MOST_LABELS", 5)
    assert isinstance(refusal(coco_archive(categories=[{"id": n, "name": "x"} for n in range(7)])), TooManyClasses)
    monkeypatch.setattr(by_picture, "MOST_BOXES", 5)
    assert isinstance(refusal(coco_archive()), TooManyBoxes)
    assert isinstance(refusal(table_archive()), TooManyBoxes)
    monkeypatch.setattr(by_picture, "MOST_PICTURES", 4)
    assert isinstance(refusal(coco_archive()), TooManyPictures)


def test_numbers_that_are_none(refusal):
    text = coco().decode().replace('"bbox": [2, 3, 18, 22]', '"bbox": [NaN, -Infinity, 1e308, 1e308]')

    [detail] = refusal(archive({**pictures(), "boxes.json": text.encode()})).details

    assert "annotation 1 of 'a.jpg' has a left edge that is not a finite number" in detail["reason"]


def test_a_file_of_many_lines_for_one_picture(refusal):
    some = refusal(yolo_archive(b=b"0 0.5 0.5 0.2 0.2\n" * 5_000))
    many = refusal(yolo_archive(b=b"0 0.5 0.5 0.2 0.2\n" * 1_000_000))

    assert "has 5000 boxes; the limit is 2000" in some.details[0]["reason"]
    assert "the limit is 2097152" in many.details[0]["reason"]


@pytest.mark.parametrize("name", ["../a.jpg", "../../etc/passwd", "/etc/passwd", "..\\..\\a.png", "x/../../b.png"])
def test_names_that_lead_out_of_the_archive_name_nothing_there(refusal, name):
    error = refusal(table_archive(table() + f"{name},40,30,cat,1,1,9,9\n".encode()))

    assert error.total == 1
    assert "not in the archive" in error.details[0]["reason"] or "twice" in error.details[0]["reason"]


def test_members_that_lead_out_of_the_archive_are_refused(refusal):
    error = refusal(archive({**pictures(), "../boxes.json": coco()}))

    assert "leads out of the archive" in error.details[0]["reason"]


def test_annotations_that_unpack_to_a_hundred_times_their_size(refusal):
    padding = b" " * (4 * MEBIBYTE)
    content = archive({**pictures(), "boxes.json": b"{" + padding + coco()[1:]})
    error = refusal(content, limits=Limits(harmless_bytes=MEBIBYTE))

    assert isinstance(error, OversizedArchive)


@pytest.mark.parametrize(
    "names",
    [
        b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nnames: *c\n",
        b"names: " + b"[" * 20_000,
        b"names: {0: !!python/object/apply:os.system [id]}\n",
        b"names: 7\n",
        b"names: [" + b"x, " * 200_000 + b"]",
        b"names: \xff",
    ],
)
def test_lists_of_classes_that_are_none(refusal, names):
    error = refusal(yolo_archive({"data.yaml": names}))

    assert "'data.yaml'" in error.details[0]["reason"]


def test_pictures_of_another_size_than_their_annotations_say(refusal):
    members = {**pictures(), **{f"{name[0]}.xml": voc(name, boxes) for name, boxes in BOXES.items()}}
    error = refusal(archive({**members, "a.jpg": picture(size=(400, 300)), "b.jpg": picture(size=(30, 40))}))

    assert [detail["member"] for detail in error.details] == ["a.jpg", "b.jpg"]


def test_many_pictures_called_alike_cost_no_time(profile, refusal):
    # To compare each name with all alike would be quadratic: more than fifty alike have to be named with their folders.
    members = {f"{number}/same.jpg": picture(size=(40, 30), seed=number % 5) for number in range(60)}
    rows = b"".join(f"{number}/same.jpg,40,30,cat,1,1,9,9\n".encode() for number in range(60))
    header = b"filename,width,height,class,xmin,ymin,xmax,ymax\n"

    assert profile(archive({**members, "boxes.csv": header + rows})).rows == 60
    error = refusal(archive({**members, "boxes.csv": header + b"same.jpg,40,30,cat,1,1,9,9\n"}))
    assert "60 pictures are called so" in error.details[0]["reason"]


def one_document(path: Path, lists: dict[str, tuple[dict[str, object], int]]) -> Path:
    """An archive with a COCO document of entries that are repeated, written without holding it in memory."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        for name, content in pictures().items():
            file.writestr(name, content)
        with file.open("boxes.json", "w") as document:
            document.write(b'{"note": ""')
            for key, (entry, times) in lists.items():
                document.write(f', "{key}": ['.encode())
                for number in range(times):
                    document.write(
                        json.dumps({"id": number, **entry}).encode() + (b"," if number < times - 1 else b"]")
                    )
            document.write(b"}")
    return path


IMAGE = {"file_name": "a.jpg", "width": 40, "height": 30}
BOX = {"image_id": 0, "category_id": 0, "bbox": [1.5, 2.5, 3, 4], "segmentation": [[1.0] * 30]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lists", "code"),
    [
        ({"images": (IMAGE, 1), "annotations": (BOX, 120_000)}, "invalid_dataset"),
        ({"images": (IMAGE, 1), "categories": ({"name": "cat"}, 500_000)}, "too_many_classes"),
        ({"categories": ({"name": "cat"}, 1), "images": (IMAGE, 500_000)}, "too_many_pictures"),
    ],
)
def test_memory_does_not_grow_with_a_document(
    tmp_path: Path,
    measured: Callable[[Path], tuple[str, int]],
    lists: dict[str, tuple[dict[str, object], int]],
    code: str,
):
    """Thirty mebibytes of JSON, which as objects would take three hundred."""
    found, grown = measured(one_document(tmp_path / "boxes.zip", lists))

    assert found == code
    assert grown < 128 * MEBIBYTE
