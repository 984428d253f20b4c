"""Pictures, by Pillow: judged from the header, decoded in full once, and turned into upright RGB."""

from __future__ import annotations

import contextlib
import io
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, ImageOps

from models.datasets.limits import Limits
from models.datasets.media import encodings
from models.datasets.media.encodings import Encoding
from models.datasets.problems import BadValue

# Cameras write several pictures into one JPEG file and call it MPO; the first one is the picture.
_PILLOW_NAMES = {"JPEG": ("JPEG", "MPO"), "PNG": ("PNG",), "WEBP": ("WEBP",), "BMP": ("BMP",)}
_SMALL = (64, 64)
# A progressive JPEG is decoded anew for every scan; a file of a megabyte can hold ten thousand of them.
_MAX_SCANS = 64
_SCAN = b"\xff\xda"
# A decoded picture of the largest size takes hundreds of megabytes: two of them never at a time.
_LARGE_PIXELS = 4_000_000
_one_large = threading.Lock()
_NUMBER = re.compile(r"\d+")
_TURNED = range(5, 9)  # EXIF orientations that exchange width and height
# Pillow decodes a whole PNG to look for EXIF behind its pixels: only where there can be some.
_EXIF_OF_PNG = (b"eXIf", b"Raw profile type exif")


@dataclass(frozen=True, slots=True)
class Measured:
    """The size of a picture in pixels: upright, as `decode` returns it, and as it is stored."""

    width: int
    height: int
    stored_width: int
    stored_height: int
    orientation: int = 1  # EXIF's number

    def turn(self, edges: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """Return left, top, right, bottom in the upright picture of edges in one that is stored lying (5 to 8)."""
        left, top, right, bottom = edges
        width, height = self.stored_width, self.stored_height
        turned = {
            5: (top, left, bottom, right),
            6: (height - bottom, left, height - top, right),
            7: (height - bottom, width - right, height - top, width - left),
            8: (top, width - right, bottom, width - left),
        }
        return turned.get(self.orientation, edges)


def measure(data: bytes, name: str, limits: Limits) -> Measured:
    """Return a picture's size from its header, without decoding it. Raises BadValue."""
    with _opened(data, name, limits) as picture:
        width, height, orientation = picture.width, picture.height, _orientation(picture, data)
    sides = (height, width) if orientation in _TURNED else (width, height)
    return Measured(*sides, width, height, orientation)


def verify(data: bytes, name: str, limits: Limits) -> int:
    """Decode a picture on trial, JPEG at an eighth of its size; return its pixels. Raises BadValue."""
    with _opened(data, name, limits) as picture:
        pixels = picture.width * picture.height
        picture.draft("RGB", _SMALL)
        picture.load()
    return pixels


def decode(data: bytes, name: str, limits: Limits, *, shortest: int | None = None) -> Image.Image:
    """Return the picture as upright RGB, transparency on white. Raises BadValue.

    `shortest`: a large JPEG may come out reduced, by a power of two, to no less than this on its shorter side.
    """
    with _opened(data, name, limits) as picture:
        if shortest is not None:
            picture.draft("RGB", (shortest, shortest))
        picture.load()
        # A damaged EXIF block says nothing about the picture.
        with contextlib.suppress(Exception):
            ImageOps.exif_transpose(picture, in_place=True)
        return _rgb(picture)


def _orientation(picture: Image.Image, data: bytes) -> int:
    if picture.format == "PNG" and not any(mark in data for mark in _EXIF_OF_PNG):
        return 1
    with contextlib.suppress(Exception):  # as `decode` does
        found = picture.getexif().get(ExifTags.Base.Orientation, 1)
        return found if isinstance(found, int) else 1
    return 1


@contextlib.contextmanager
def _opened(data: bytes, name: str, limits: Limits) -> Iterator[Image.Image]:
    if len(data) > limits.max_media_bytes:
        reason = f"has {len(data)} bytes; the limit is {limits.max_media_bytes}"
        raise BadValue(reason, "Upload a smaller version of the picture.")
    encoding = encodings.require(data, "image", name)
    if encoding is encodings.JPEG and data.count(_SCAN) > _MAX_SCANS:
        raise BadValue(f"has more than {_MAX_SCANS} scans", encodings.MENDS["image"])
    try:
        with Image.open(io.BytesIO(data), formats=_PILLOW_NAMES[encoding.name]) as picture:
            pixels = picture.width * picture.height
            if pixels > limits.max_pixels:
                raise _too_many_pixels(f"{picture.width} x {picture.height}", limits)
            if pixels <= _LARGE_PIXELS:
                yield picture
            else:
                with _one_large:
                    yield picture
    except BadValue:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        number = _NUMBER.search(str(error))
        raise _too_many_pixels(number.group() if number else "far too many", limits) from None
    except Exception as error:
        # A decoder on damaged bytes raises whatever it trips over.
        raise _broken(encoding, error) from None


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith(("I", "F")):
        # Sixteen bits of grey: Pillow's own conversion cuts everything above 255.
        grey_HW = np.asarray(picture).astype(np.float32)
        depth = 257.0 if picture.mode.startswith("I;16") or grey_HW.max(initial=0.0) > 255 else 1.0
        return Image.fromarray(np.clip(grey_HW / depth, 0, 255).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        layered = picture.convert("RGBA")
        opaque = Image.new("RGB", picture.size, "white")
        opaque.paste(layered, mask=layered.getchannel("A"))
        return opaque
    return picture.convert("RGB")


def _too_many_pixels(size: str, limits: Limits) -> BadValue:
    reason = f"has {size} pixels; the limit is {limits.max_pixels} in all"
    return BadValue(reason, "Make the picture smaller; models look at a few hundred pixels.")


def _broken(encoding: Encoding, error: Exception) -> BadValue:
    reason = f"is cut off or damaged ({encoding.name}: {encodings.described(error)})"
    return BadValue(reason, "Upload the whole picture, or remove it.")
