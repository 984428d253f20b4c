"""Boxes that cannot be used: each is named with its file, its row, the reason and the mend."""

from __future__ import annotations

import pytest

from models.datasets.limits import Limits
from tests.models.datasets.boxes.box_files import (
    BOXES,
    coco_archive,
    pictures,
    table,
    table_archive,
    voc,
    voc_archive,
    yolo,
    yolo_archive,
)
from tests.models.datasets.media_files import archive


def with_row(row: str) -> bytes:
    return table_archive(table() + row.encode() + b"\n")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a.jpg,40,30,cat,60,5,70,10", "row 9 of 'images/a.jpg' lies outside of the picture of 40 x 30 pixels"),
        ("a.jpg,40,30,cat,5,5,50,10", "reaches 10 pixels beyond the picture"),
        ("a.jpg,40,30,cat,30,5,10,10", "is inverted: its right edge is before its left edge"),
        ("a.jpg,40,30,cat,10,20,30,5", "is inverted: its bottom edge is before its top edge"),
        ("a.jpg,40,30,cat,10,5,10,10", "is empty: its width is 0"),
        ("a.jpg,40,30,cat,10,5,10.000000001,10", "is empty: its width is 1e-09 pixels"),
        ("a.jpg,40,30,cat,10,5,20,5.009", "is empty: its height is 0.009 pixels"),
        ("a.jpg,40,30,cat,-1,5,0.001,10", "has no area inside of the picture of 40 x 30 pixels"),
        ("a.jpg,40,30,cat,nan,5,10,10", "left edge that is not a finite number"),
        ("a.jpg,40,30,cat,1,5,inf,10", "right edge that is not a finite number"),
        ("a.jpg,40,30,cat,1,5,1e308,10", "right edge that is beyond 1e+30"),
        ("a.jpg,40,30,,1,5,9,10", "has no label"),
        ("a.jpg,40,30,cat,1,,9,10", "has no top edge"),
        ("a.jpg,40,30,cat,one,2,9,10", "has a left edge that is no number: one"),
        ("z.jpg,40,30,cat,1,2,9,10", "names 'z.jpg', which is not in the archive"),
        ("a.png,40,30,cat,1,2,9,10", "names 'a.png', which is not in the archive"),
        (",40,30,cat,1,2,9,10", "names no picture"),
    ],
)
def test_rows_of_a_table(refusal, row, reason):
    error = refusal(with_row(row))

    assert error.total == 1
    assert reason in error.details[0]["reason"]
    assert (error.details[0]["member"], error.details[0]["line"]) == ("boxes.csv", 10)


def test_all_bad_boxes_are_named_at_once(refusal):
    error = refusal(
        table_archive(table() + b"a.jpg,40,30,cat,60,5,70,10\nb.jpg,40,30,cat,1,2,0,3\nb.jpg,,,dog,1,1,1,1\n")
    )

    assert [detail["line"] for detail in error.details] == [10, 11, 12]
    assert "2 bad rows of 6" in str(error)


@pytest.mark.parametrize(
    "content",
    [
        coco_archive(annotations=lambda boxes: boxes.extend(list(boxes))),
        voc_archive(a=voc("a.jpg", BOXES["a.jpg"] * 2), d=voc("d.jpg", BOXES["d.jpg"] * 3)),
        yolo_archive(a=yolo(BOXES["a.jpg"] * 2), c=yolo(BOXES["c.jpg"] * 2)),
        with_row("a.jpg,40,30,cat,2,3,20,25"),
        with_row("a.jpg,40,30,dog,10,10,40,30"),
    ],
)
def test_a_box_that_is_there_twice_is_one_and_told(profile, examples, content):
    [told] = [each for each in profile(content).warnings if each["code"] == "reading"]
    boxes = [len(row.target) for row in examples(content)]

    assert boxes == [len(BOXES[name]) for name in BOXES]
    assert "Boxes that are there twice" in told["message"]
    assert told["count"] == len(told["rows"]) >= 1


def test_boxes_with_the_same_borders_and_other_labels_stay(profile, examples):
    content = with_row("a.jpg,40,30,dog,2,3,20,25")

    assert [box.label for box in examples(content)[0].target] == ["cat", "dog", "dog"]
    assert [each for each in profile(content).warnings if each["code"] == "reading"] == []


def test_little_that_hangs_over_is_cut_off_and_told(profile, examples):
    content = with_row("c.jpg,40,30,cat,-1.5,10,41.9,32")

    [told] = [each for each in profile(content).warnings if each["code"] == "reading"]
    [box] = [row.target[1] for row in examples(content) if row.input.name == "images/c.jpg"]
    assert (box.left, box.top, box.right, box.bottom) == (0, 10, 40, 30)
    assert "beyond the picture's edge are cut off" in told["message"]
    assert told["count"] == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"annotations": lambda some: some[1].update(category_id=9)}, "annotation 2 has the category 9, which"),
        ({"annotations": lambda some: some[1].update(image_id=77)}, "annotation 2 is about the image 77, which"),
        ({"annotations": lambda some: some[1].pop("bbox")}, "annotation 2 has no bbox"),
        ({"annotations": lambda some: some[1].update(bbox=[1, 2, 3])}, "annotation 2 has the bbox [1, 2, 3]"),
        ({"annotations": lambda some: some[1].update(bbox=[1, 2, "x", 3])}, "with x, which is no number"),
        ({"annotations": lambda some: some[1].update(bbox=[1, 2, 10**400, 3])}, "far too large"),
        ({"annotations": lambda some: some[1].update(bbox=[30, 2, -10, 3])}, "annotation 2 of 'a.jpg' is inverted"),
        ({"annotations": lambda some: some[1].pop("image_id")}, "annotation 2 has no image_id"),
        ({"annotations": lambda some: some.append(3)}, "annotation 8 is 3 where an object is expected"),
        ({"images": lambda some: some[1].update(id=0)}, "image 2 has the id 0, as image 1"),
        ({"images": lambda some: some[1].update(file_name="a.jpg")}, "is named by 'boxes.json' twice"),
        ({"images": lambda some: some[1].update(file_name="z.jpg")}, "image 2 names 'z.jpg', which is not in the"),
        ({"images": lambda some: some[1].update(width=80, height=60)}, "has 40 x 30 pixels where its annotation"),
        ({"images": lambda some: some[1].update(width="wide")}, "whose size is no number: wide x 30"),
        ({"categories": lambda some: some[1].update(id=1)}, "category 2 has the id 1, as 'cat'"),
        ({"categories": lambda some: some[1].update(name=None)}, "has no label"),
    ],
)
def test_entries_of_coco(refusal, changes, reason):
    error = refusal(coco_archive(**changes))

    assert reason in error.details[0]["reason"]
    assert error.details[0]["member"] in ("boxes.json", "a.jpg", "b.jpg")


@pytest.mark.parametrize(
    ("content", "reason", "line"),
    [
        (b"0 0.5 0.5 0.2", "has 4 values where a box has 5", 1),
        (b"0 0.5 0.5 0.2 0.2 0.9", "has 6 values where a box has 5", 1),
        (b"\n0 0.5 x 0.2 0.2", "has x, which is no number", 2),
        (b"7 0.5 0.5 0.2 0.2", "has the class 7; 'classes.txt' names 0 to 1", 1),
        (b"-1 0.5 0.5 0.2 0.2", "has the class -1, which is no whole number", 1),
        (b"cat 0.5 0.5 0.2 0.2", "has the class cat, which is no whole number", 1),
        (b"0 20 15 10 10", "lies outside of the picture", 1),
        (b"0 0.5 0.5 0 0.2", "is empty: its width is 0", 1),
        (b"0 0.5 0.5 nan 0.2", "not a finite number", 1),
        (b"\xff\xfe0\0", "is not UTF-8", None),
    ],
)
def test_lines_of_yolo(refusal, content, reason, line):
    error = refusal(yolo_archive(b=content))

    assert reason in error.details[0]["reason"]
    assert (error.details[0]["member"], error.details[0]["line"]) == ("labels/b.txt", line)


def test_a_file_of_yolo_without_its_picture_is_named(refusal):
    error = refusal(yolo_archive(z=b"0 0.5 0.5 0.2 0.2"))

    assert error.details[0]["member"] == "labels/z.txt"
    assert "like no picture" in error.details[0]["reason"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<annotation><object>", "is not valid XML (line 1:"),
        (b"<annotations/>", "begins with <annotations>"),
        (
            b"<annotation><object><name>cat</name></object></annotation>",
            "object 1 of 'JPEGImages/b.jpg' has a left edge",
        ),
        (voc("b.jpg", BOXES["b.jpg"], size=(80, 60)), "has 40 x 30 pixels where its annotation"),
        (b'<?xml version="1.0" encoding="nobody"?><annotation/>', "is not valid XML"),
    ],
)
def test_files_of_voc(refusal, content, reason):
    error = refusal(voc_archive(b=content))

    assert reason in error.details[0]["reason"]
    assert error.details[0]["member"] in ("Annotations/b.xml", "JPEGImages/b.jpg")


def test_a_file_of_voc_finds_its_picture_by_name_or_by_what_it_says(examples, refusal):
    content = archive({**pictures(), **{f"boxes/{at}.xml": voc(n, b) for at, (n, b) in enumerate(BOXES.items())}})

    assert [row.input.name for row in examples(content)] == list(BOXES)
    error = refusal(voc_archive(z=voc("elsewhere/z.jpg", ())))
    assert "names 'elsewhere/z.jpg', which is not in the archive" in error.details[0]["reason"]


def test_pictures_that_are_none_are_named(refusal):
    error = refusal(archive({**pictures(), "b.jpg": b"GIF89a", "boxes.csv": table()}))

    assert (error.details[0]["member"], error.details[0]["row"]) == ("b.jpg", 2)


def test_a_picture_may_have_so_many_boxes(refusal):
    error = refusal(coco_archive(), limits=Limits(max_boxes=1))

    assert "has 2 boxes; the limit is 1" in error.details[0]["reason"]
    assert error.total == 2


@pytest.mark.parametrize("other", ["./images/a.jpg", "images/a.jpg", "/home/me/images/a.jpg"])
def test_a_picture_named_twice_in_different_ways_is_one(refusal, other):
    assert "twice" in refusal(with_row(f"{other},40,30,cat,1,2,9,10")).details[0]["reason"]


@pytest.mark.parametrize("place", ["head", "row"])
def test_a_table_in_another_encoding_is_refused_with_the_command_that_converts_it(refusal, place):
    text = table().decode()
    text = text.replace("class", "class,größe", 1) if place == "head" else text + "ä.jpg,40,30,hündin,1,1,9,9\n"

    error = refusal(table_archive(text.encode("latin-1")))

    assert error.code == "not_utf8"
    assert "iconv" in str(error)
