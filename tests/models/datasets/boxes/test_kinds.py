"""Archives of pictures with boxes as annotation tools write them: the same boxes, whatever the format."""

from __future__ import annotations

import json

import pytest

from models.datasets.errors import NoAnnotations, NoBoxes, SeveralAnnotations, SeveralClassLists, TooFewRows
from models.datasets.examples import Box
from models.datasets.formats.boxes import reading
from tests.models.datasets.boxes.box_files import (
    BOXES,
    SIZE,
    coco,
    coco_archive,
    pictures,
    table,
    table_archive,
    voc,
    voc_archive,
    yolo,
    yolo_archive,
)
from tests.models.datasets.media_files import archive, folders


def codes(profile) -> list[str]:
    return [warning["code"] for warning in profile.warnings if warning["code"] not in ("few_rows",)]


def by_name(examples) -> dict[str, list[tuple[object, ...]]]:
    return {
        example.input.name.rpartition("/")[2]: [
            (box.label, *(round(edge, 6) for edge in (box.left, box.top, box.right, box.bottom)))
            for box in example.target
        ]
        for example in examples
    }


DRAWN = {
    name: [(box.label, box.left, box.top, box.right, box.bottom) for box in boxes] for name, boxes in BOXES.items()
}


@pytest.mark.parametrize("content", [coco_archive(), voc_archive(), yolo_archive(), table_archive()])
def test_every_format_holds_the_same_boxes(profile, examples, content):
    found = profile(content)
    rows = examples(content)

    assert (found.format, found.task, found.rows) == ("zip", "object-detection", 6)
    assert found.labels == {"cat": 3, "dog": 3}
    assert codes(found) == []
    assert by_name(rows) == DRAWN
    assert [row.row for row in rows] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        ({"data.yaml": b"train: images\nnc: 2\nnames: ['cat', 'dog']\n"}, {"cat", "dog"}),
        ({"data.yaml": b"names:\n  0: cat\n  1: dog\n"}, {"cat", "dog"}),
        ({"obj.names": b"cat\r\ndog\r\n", "train.txt": b"images/a.jpg\n"}, {"cat", "dog"}),
        ({"labels/classes.txt": b"cat\ndog\nbird"}, {"cat", "dog"}),
        ({}, {"0", "1"}),
    ],
)
def test_names_of_yolos_classes(profile, names, labels):
    found = profile(yolo_archive(names))

    assert set(found.labels) == labels
    assert codes(found) == ([] if names else ["class_numbers"])


def test_lists_of_classes_that_disagree_are_refused(refusal):
    error = refusal(yolo_archive({"classes.txt": b"cat\ndog\n", "labels/classes.txt": b"dog\ncat\n"}))

    assert isinstance(error, SeveralClassLists)


def test_polygons_of_yolo_stand_for_the_box_around_them(examples):
    content = yolo_archive(a=b"0 0.25 0.5 0.5 0.1 0.75 0.9\n")

    assert by_name(examples(content))["a.jpg"] == [("cat", 10, 3, 30, 27)]


def test_keypoints_of_yolo_are_not_read_as_a_polygon(profile, examples, refusal):
    names = {"data.yaml": b"names: [cat, dog]\nkpt_shape: [2, 2]\n"}
    content = yolo_archive(names, a=b"0 0.5 0.5 0.5 0.8 0.9 0.9 0.1 0.1\n")
    assert by_name(examples(content))["a.jpg"] == [("cat", 10, 3, 30, 27)]
    assert codes(profile(content)) == ["keypoints_not_read"]
    cut = refusal(yolo_archive(names, a=b"0 0.5 0.5 0.5 0.8 0.9 0.9\n"))
    assert "has 7 values where a box with its keypoints has 9" in cut.details[0]["reason"]
    wrong = refusal(yolo_archive({"data.yaml": b"names: [cat, dog]\nkpt_shape: 17\n"}))
    assert "'data.yaml' has the `kpt_shape` 17" in wrong.details[0]["reason"]


@pytest.mark.parametrize(
    "header",
    ["filename,width,height,class,xmin,ymin,xmax,ymax", "image,img_width,img_height,label,x1,y1,x2,y2",
     "Path,w,h,Category,left,top,right,bottom"],
)  # fmt: skip
def test_names_of_columns(examples, header):
    assert by_name(examples(table_archive(table(header=header)))) == DRAWN


def test_a_table_of_shares_and_one_of_sizes(examples):
    shares = b"ImageID,LabelName,XMin,XMax,YMin,YMax\n" + b"".join(
        f"{name},{box.label},{box.left / 40},{box.right / 40},{box.top / 30},{box.bottom / 30}\n".encode()
        for name, boxes in BOXES.items()
        for box in boxes
    )
    sizes = b"label_name,bbox_x,bbox_y,bbox_width,bbox_height,image_name\n" + b"".join(
        f"{box.label},{box.left},{box.top},{box.right - box.left},{box.bottom - box.top},{name}\n".encode()
        for name, boxes in BOXES.items()
        for box in boxes
    )
    drawn = {name: boxes for name, boxes in DRAWN.items() if boxes}

    assert by_name(examples(table_archive(shares))) == drawn
    assert by_name(examples(table_archive(sizes))) == drawn


@pytest.mark.parametrize(("edge", "beyond"), [("left", -0.001), ("right", 1.0004), ("right", 1.02)])
def test_shares_that_were_rounded_beyond_the_picture_are_still_shares(examples, edge, beyond):
    """One such value made pixels of a whole file: boxes of a thousandth of their size, without an error."""
    edges = {"left": 0.25, "top": 0.1, "right": 0.75, "bottom": 0.9, edge: beyond}
    rest = table().decode().splitlines()[1:]
    lines = ["filename,class,xmin,ymin,xmax,ymax"]
    for line in rest:
        name, _, _, label, *pixels = line.split(",")
        shares = [str(float(pixel) / (40, 30)[at % 2]) if pixel else "" for at, pixel in enumerate(pixels)]
        lines.append(",".join([name, label, *shares]))
    lines.append(",".join(["a.jpg", "cat", *map(str, edges.values())]))
    found = by_name(examples(table_archive("\n".join(lines).encode())))

    cut = {"left": 10.0, "top": 3.0, "right": 30.0, "bottom": 27.0, edge: 0.0 if edge == "left" else 40.0}
    assert found == {**DRAWN, "a.jpg": [*DRAWN["a.jpg"], ("cat", *cut.values())]}


def test_rows_of_one_picture_need_not_stand_together(examples):
    first, *rest = table().decode().splitlines()

    assert by_name(examples(table_archive("\n".join([first, *reversed(rest)]).encode()))).keys() == DRAWN.keys()


def test_lists_of_coco_in_any_order_and_ids_of_any_kind(examples):
    document = json.loads(coco())
    for image in document["images"]:
        image["id"] = f"image {image['id']}"
    for annotation in document["annotations"]:
        annotation["image_id"] = f"image {annotation['image_id']}"
    turned = {key: document[key] for key in ("annotations", "categories", "images")}
    content = archive({**pictures("photos/"), "photos.json": json.dumps(turned, indent=1).encode()})

    assert by_name(examples(content)) == DRAWN


def test_groups_of_coco_are_left_out_and_counted(profile, examples):
    content = coco_archive(annotations=lambda entries: entries[0].update(iscrowd=1))

    assert codes(profile(content)) == ["groups_left_out"]
    assert len(by_name(examples(content))["a.jpg"]) == 1


@pytest.mark.parametrize("content", [coco_archive(), voc_archive(), yolo_archive(), table_archive()])
def test_annotations_are_parsed_once(profile, monkeypatch, content):
    """Warnings of what an archive holds besides come from the same pass over documents of perhaps many megabytes."""
    begun: list[str] = []
    for source in reading._SOURCES:
        parse = source.annotations
        monkeypatch.setattr(source, "annotations", lambda own, parse=parse: (begun.append(own.kind), parse(own))[1])
    assert profile(content).rows == 6
    assert len(begun) == 1


def test_splits_are_read_as_one_set_and_tests_are_left_out(profile, examples):
    names = list(BOXES)
    parts = {"train": names[:3], "valid": names[3:5], "test": names[5:]}
    members: dict[str, bytes] = {}
    for split, some in parts.items():
        chosen = {name: BOXES[name] for name in some}
        members |= pictures(f"{split}/", chosen) | {f"{split}/_annotations.coco.json": coco(chosen)}
    content = archive(members)

    assert codes(profile(content)) == ["test_split_left_out", "splits_joined"]
    assert sorted(by_name(examples(content))) == names[:5]


def test_an_archive_of_tests_alone_is_read(profile):
    content = archive({**pictures("test/images/"), **{f"test/labels/{n[0]}.txt": yolo(b) for n, b in BOXES.items()}})

    assert (profile(content).rows, codes(profile(content))) == (6, ["class_numbers"])


def test_the_list_of_vocs_tests_is_left_out(profile):
    members = {**pictures("JPEGImages/"), **{f"Annotations/{n[0]}.xml": voc(n, b) for n, b in BOXES.items()}}
    lists = {"ImageSets/Main/train.txt": b"a\nb\nc\nd\n", "ImageSets/Main/test.txt": b"e\nf\n"}
    found = profile(archive({**members, **lists}))

    assert found.rows == 4
    assert "test_split_left_out" in codes(found)


def test_pictures_of_one_name_in_several_folders(examples):
    parts = {"train": list(BOXES)[:3], "valid": list(BOXES)[3:]}
    members: dict[str, bytes] = {}
    for split, some in parts.items():
        for number, name in enumerate(some):
            [content] = pictures("", {name: ()}).values()
            members[f"data/images/{split}/{number}.jpg"] = content + bytes([len(members)])
            members[f"data/labels/{split}/{number}.txt"] = yolo(BOXES[name])

    rows = examples(archive({**members, "classes.txt": b"cat\ndog"}))

    assert [row.input.name for row in rows] == [name for name in members if name.endswith(".jpg")]
    assert [len(row.target) for row in rows] == [len(boxes) for boxes in BOXES.values()]


def test_pictures_that_no_annotation_names_are_told(profile):
    found = profile(archive({**pictures(), **pictures("more/"), "boxes.json": coco()}))

    [warning] = [each for each in found.warnings if each["code"] == "pictures_without_annotation"]
    assert warning["count"] == 6
    assert "'more/a.jpg'" in warning["message"]


def test_boxes_in_two_kinds_of_files_are_refused(refusal):
    error = refusal(archive({**pictures(), "boxes.json": coco(), "boxes.csv": table()}))

    assert isinstance(error, SeveralAnnotations)
    assert "COCO JSON ('boxes.json')" in str(error)


def test_pictures_without_annotations_for_a_task_that_needs_them(refusal):
    assert isinstance(refusal(archive(folders()), task="object-detection"), NoAnnotations)
    assert isinstance(refusal(archive({**pictures(), "boxes.json": coco(dict.fromkeys(BOXES, ()))})), NoBoxes)


def test_labels_in_too_few_pictures_are_told_or_refused(profile, refusal):
    some = {**BOXES, "f.jpg": (Box("dog", 1, 1, 9, 9),), "b.jpg": ()}
    lone = {name: tuple(box for box in boxes if box.label == "cat" or name == "f.jpg") for name, boxes in some.items()}
    found = profile(archive({**pictures(), "boxes.csv": table(lone)}))

    assert found.labels == {"cat": 3, "dog": 1}
    assert "rare_labels" in codes(found)
    once = {name: boxes[:1] if name == "a.jpg" else () for name, boxes in BOXES.items()}
    assert isinstance(refusal(archive({**pictures(), "boxes.csv": table(once)})), TooFewRows)


def test_a_file_to_score_on_may_have_one_picture(profile):
    content = archive({"a.jpg": pictures()["a.jpg"], "a.xml": voc("a.jpg", BOXES["a.jpg"])})

    assert profile(content, role="validation").rows == 1


def test_what_is_called_like_an_annotation_and_is_none_is_passed_over(profile):
    more = {
        "README.roboflow.txt": b"Exported from somewhere\n",
        "notes.json": b'{"version": 1}',
        "train.txt": b"a.jpg\n",
    }
    content = archive(
        {**pictures(), **{f"{n[0]}.txt": yolo(b) for n, b in BOXES.items()}, **more, "classes.txt": b"x\ny"}
    )

    assert codes(profile(content)) == []


def test_picture_classification_goes_on_beside_texts(profile):
    assert profile(archive({**folders(), "labels.csv": b"file,label\n" + b"".join(
        f"{name},{name[:4]}\n".encode() for name in folders())})).task == "image-classification"  # fmt: skip


def test_the_size_that_an_annotation_states_may_be_missing(examples):
    content = voc_archive(a=voc("a.jpg", BOXES["a.jpg"], size=(0, 0)))

    assert by_name(examples(content)) == DRAWN
    assert SIZE == (40, 30)
