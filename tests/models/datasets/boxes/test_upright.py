"""Pictures that a camera marked as turned: boxes are in pixels of the upright picture, whatever the file meant."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import ExifTags, Image

from models.datasets.limits import Limits
from models.datasets.media import pictures as media
from tests.models.datasets.boxes.box_files import BOXES, pictures, voc
from tests.models.datasets.media_files import archive

LIMITS = Limits()
WIDTH, HEIGHT = 60, 40
LEFT, TOP, RIGHT, BOTTOM = 5, 8, 20, 24  # of what is red, as the picture is stored


def turned(orientation: int, kind: str = "JPEG") -> bytes:
    """A grey picture with a red box, and a mark that says how to hold it."""
    pixels = np.full((HEIGHT, WIDTH, 3), 128, dtype=np.uint8)
    pixels[TOP:BOTTOM, LEFT:RIGHT] = (255, 0, 0)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, exif=exif, quality=100, subsampling=0)
    return buffer.getvalue()


def red(data: bytes) -> tuple[int, int, int, int]:
    """Where the red is in the upright picture."""
    pixels = np.asarray(media.decode(data, "x", LIMITS)).astype(int)
    rows, columns = np.nonzero((pixels[:, :, 0] > 190) & (pixels[:, :, 1] < 70))
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def read(examples, data: bytes, *, size: tuple[int, int], edges: tuple[int, ...]) -> tuple[float, ...]:
    """The box of that picture, as it is read."""
    left, top, right, bottom = edges
    content = voc("turned", BOXES["b.jpg"], size=size).decode()
    content = content.replace("<xmin>0<", f"<xmin>{left}<").replace("<ymin>0<", f"<ymin>{top}<")
    content = content.replace("<xmax>8<", f"<xmax>{right}<").replace("<ymax>9<", f"<ymax>{bottom}<")
    others = {f"{name[0]}.xml": voc(name, boxes) for name, boxes in BOXES.items()}
    rows = examples(archive({**pictures(), **others, "turned.jpg": data, "turned.xml": content.encode()}))
    [box] = rows[-1].target
    return box.left, box.top, box.right, box.bottom


@pytest.mark.parametrize("orientation", range(5, 9))
def test_boxes_in_the_picture_as_it_is_stored_are_turned_with_it(examples, orientation):
    data = turned(orientation)

    found = read(examples, data, size=(WIDTH, HEIGHT), edges=(LEFT, TOP, RIGHT, BOTTOM))

    assert found == red(data)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_in_the_upright_picture_stay(examples, orientation):
    data = turned(orientation)
    upright = media.decode(data, "x", LIMITS).size

    assert read(examples, data, size=upright, edges=red(data)) == red(data)
    assert read(examples, data, size=(0, 0), edges=red(data)) == red(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_size_of_a_picture_is_measured_without_decoding_it(kind):
    measured = media.measure(turned(6, kind), "x", LIMITS)

    assert (measured.width, measured.height) == media.decode(turned(6, kind), "x", LIMITS).size == (HEIGHT, WIDTH)
    assert (measured.stored_width, measured.stored_height) == (WIDTH, HEIGHT)
