"""Boxes in a picture: where their lines and labels are, and what cannot be drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.cli import box_drawing
from deploy.cli.box_drawing import Box
from deploy.cli.errors import CommandError
from deploy.cli.input_files import InputFile


def changed(boxes: list[Box], size: tuple[int, int] = (200, 160)) -> np.ndarray:
    """Where the drawing differs from the black picture that it was made from: (H, W)."""
    plain = Image.new("RGB", size)
    drawn = box_drawing.draw(plain, boxes)
    assert drawn.size == plain.size
    assert not np.asarray(plain).any(), "the picture itself was drawn into"
    return np.asarray(drawn).any(axis=2)


def test_a_box_has_its_four_sides_and_its_label_above():
    found_HW = changed([Box("raccoon", 0.91, 40, 60, 160, 140)])
    for row, column in ((60, 100), (140, 100), (100, 40), (100, 160)):
        assert found_HW[row, column]
    assert not found_HW[70:135, 50:150].any(), "the picture inside the box is hidden"
    assert found_HW[45:58, 40:100].any(), "no label above"
    assert not found_HW[145:].any()


def test_labels_differ_in_colour_and_stay_inside_the_picture():
    boxes = [Box("cat", 0.9, 10, 40, 60, 90), Box("dog", 0.8, 100, 40, 190, 90)]
    drawn = box_drawing.draw(Image.new("RGB", (200, 160)), boxes)
    assert drawn.getpixel((10, 70)) != drawn.getpixel((100, 70)) != (0, 0, 0)
    assert changed([Box("a label longer than its box", 0.5, 150, 0, 199, 30)])[2:20, 40:150].any()


@pytest.mark.parametrize("sides", [(-50, -50, 900, 900), (300, 300, 400, 400), (90, 90, 20, 20), (5, 5, 5, 5)])
def test_a_box_beyond_the_picture_or_without_area_is_drawn_as_far_as_it_goes(sides):
    assert changed([Box("odd", 0.5, *sides)]).any()


def test_no_box_leaves_the_picture_as_it_is():
    assert not changed([]).any()


def test_what_cannot_be_drawn_is_named(tmp_path: Path):
    file = InputFile("a.png", tmp_path / "a.png")
    for target, task, files, reason in (
        (tmp_path / "b.png", "text-classification", [], "'m' is for text-classification"),
        (tmp_path / "b.png", box_drawing.TASK, [file, file], "takes one picture, and there are 2"),
        (tmp_path / "b.txt", box_drawing.TASK, [file], "writes .png, .jpg or .webp"),
        (tmp_path / "none" / "b.png", box_drawing.TASK, [file], "There is no folder"),
    ):
        with pytest.raises(CommandError, match=reason):
            box_drawing.check(target, "m", task, files)
    box_drawing.check(tmp_path / "b.png", "m", box_drawing.TASK, [file])
