from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from models.learning.detection import canvas, views
from models.learning.detection.canvas import Canvas, Placement

SQUARE = Canvas(64, 64)


def test_boxes_come_back_to_the_pixels_of_the_picture() -> None:
    generator = np.random.default_rng(0)
    corners_M2 = generator.uniform(0, 100, (20, 2))
    boxes_M4 = np.concatenate([corners_M2, corners_M2 + generator.uniform(1, 50, (20, 2))], axis=1).astype(np.float32)
    for number in range(6):
        placement = views.draw_view((150, 110), SQUARE, seed=1, picture=3, number=number).placement
        back_M4 = placement.back(placement.onto(boxes_M4))
        assert np.allclose(back_M4, boxes_M4, atol=1e-3)


def test_a_picture_lies_in_the_middle() -> None:
    assert canvas.fit((100, 50), SQUARE) == Placement(0.64, 0.64, 0.0, 16.0)
    assert canvas.fit((20, 40), SQUARE) == Placement(1.6, 1.6, 16.0, 0.0)


@pytest.mark.parametrize("number", range(8))
def test_what_is_drawn_is_where_its_box_is(number: int) -> None:
    """A white square in a black picture: the white pixels of a view are those of the box, but for its edge."""
    picture = Image.new("RGB", (120, 90))
    picture.paste((255, 255, 255), (40, 20, 80, 60))
    view = views.draw_view(picture.size, SQUARE, seed=0, picture=0, number=number)
    drawn_HW3 = canvas.draw(picture, picture.size, view.placement, SQUARE)
    box_4 = view.placement.onto(np.array([[40, 20, 80, 60]], dtype=np.float32))[0]
    left, top, right, bottom = np.clip(box_4, 0, 64)
    y_P, x_P = np.nonzero(drawn_HW3.min(2) > 200)
    assert abs(x_P.min() - left) < 2 and abs(x_P.max() + 1 - right) < 2  # noqa: PT018
    assert abs(y_P.min() - top) < 2 and abs(y_P.max() + 1 - bottom) < 2  # noqa: PT018


def test_a_reduced_copy_is_drawn_like_the_picture() -> None:
    picture = Image.linear_gradient("L").convert("RGB").resize((512, 256))
    placement = canvas.fit(picture.size, SQUARE)
    whole = canvas.draw(picture, picture.size, placement, SQUARE)
    reduced = canvas.draw(picture.reduce(2), picture.size, placement, SQUARE)
    assert np.abs(whole.astype(int) - reduced).max() <= 3


def test_boxes_that_are_hardly_seen_do_not_count() -> None:
    boxes_M4 = np.array([[-10, 10, 30, 20], [-30, 10, 2, 20], [70, 0, 80, 10]], dtype=np.float32)
    cut_M4, kept_M = views.seen(boxes_M4, SQUARE)
    assert kept_M.tolist() == [True, False, False]
    assert cut_M4.tolist() == [[0, 10, 30, 20]]


def test_the_same_numbers_draw_the_same_view() -> None:
    one, same, other = (views.draw_view((80, 60), SQUARE, seed=5, picture=2, number=number) for number in (4, 4, 6))
    assert one == same
    assert one != other


@pytest.mark.parametrize(
    ("size", "box", "expected"),
    [
        ((640, 480), (0, 0, 320, 240), Canvas(192, 256)),  # large things in wide pictures
        ((640, 480), (0, 0, 35, 45), Canvas(256, 320)),
        ((300, 300), (0, 0, 5, 5), Canvas(448, 448)),  # as small as can be: the largest canvas
        ((200, 400), (0, 0, 100, 100), Canvas(256, 128)),
    ],
)
def test_the_canvas_is_no_larger_than_boxes_need_it(
    size: tuple[int, int], box: tuple[float, ...], expected: Canvas
) -> None:
    boxes = [np.array([box], dtype=np.float32)] * 3
    assert canvas.choose([size] * 3, boxes, [np.array([0])] * 3) == expected


def test_a_rare_label_of_small_things_decides_as_much_as_others() -> None:
    boxes_M4 = np.array([*[(0, 0, 200, 200)] * 50, (0, 0, 35, 35)], dtype=np.float32)
    label_M = np.array([0] * 50 + [1])
    assert canvas.choose([(640, 640)], [boxes_M4], [label_M]) == Canvas(320, 320)


def test_pictures_without_boxes_get_a_canvas() -> None:
    nothing = np.empty((0, 4), dtype=np.float32)
    assert canvas.choose([(100, 100)], [nothing], [np.empty(0, dtype=np.int64)]) == Canvas(256, 256)
