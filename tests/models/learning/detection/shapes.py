"""Pictures with coloured shapes in them, drawn here, and archives of them with a table of their boxes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from models.datasets.validation import Limits, inspect
from models.learning.contract.request import DatasetSource
from tests.models.datasets.media_files import archive

SIZE = (96, 80)
Shape = tuple[str, tuple[int, int, int, int]]  # label; left, top, right, bottom
_COLOURS = {"disc": (210, 40, 30), "square": (30, 60, 220)}


def picture(seed: int) -> tuple[bytes, list[Shape]]:
    """A grey picture as PNG with one disc or square, or one of each; every seventh has none."""
    generator = np.random.default_rng(seed)
    noise_HW3 = generator.integers(90, 130, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    drawn = Image.fromarray(noise_HW3)
    pen = ImageDraw.Draw(drawn)
    labels = [[], ["disc"], ["square"], ["disc", "square"], ["square"], ["disc"], ["disc", "square"]][seed % 7]
    shapes: list[Shape] = []
    for at, label in enumerate(labels):
        side = int(generator.integers(26, 36))
        left = int(generator.integers(0, 48 - side + 1)) + 48 * at  # side by side: they never overlap
        top = int(generator.integers(0, SIZE[1] - side))
        edges = (left, top, left + side, top + side)
        (pen.ellipse if label == "disc" else pen.rectangle)(
            (left, top, left + side - 1, top + side - 1), _COLOURS[label]
        )
        shapes.append((label, edges))
    buffer = io.BytesIO()
    drawn.save(buffer, "PNG")
    return buffer.getvalue(), shapes


def members(seeds: range) -> dict[str, bytes]:
    """The files of an archive."""
    files: dict[str, bytes] = {}
    lines = ["filename,class,xmin,ymin,xmax,ymax"]
    for seed in seeds:
        name = f"{seed}.png"
        files[f"images/{name}"], shapes = picture(seed)
        lines += [f"{name},{label},{','.join(map(str, edges))}" for label, edges in shapes] or [f"{name},,,,,"]
    return {**files, "boxes.csv": "\n".join(lines).encode()}


def source(path: Path, seeds: range) -> DatasetSource:
    """An archive, written and inspected as an upload is."""
    path.write_bytes(archive(members(seeds)))
    found = inspect(path, filename=path.name, limits=Limits())
    return DatasetSource(path, found.format, found.columns)
