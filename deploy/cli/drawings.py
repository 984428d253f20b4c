"""Drawings of thumbs, up and down: what `graft demo --pictures` learns from. No two are alike."""

from __future__ import annotations

import random
from pathlib import Path

from PIL import Image, ImageDraw

LABELS = ("thumbs_up", "thumbs_down")
_SIDE = 192
_SKINS = ((255, 219, 172), (241, 194, 125), (224, 172, 105), (198, 134, 66), (141, 85, 36), (255, 204, 77))


def draw(label: str, seed: int) -> Image.Image:
    """Return one drawing of 192 pixels: a fist with its thumb up or down, in some colour, place, size and slant."""
    rng = random.Random(f"{label} {seed}")  # noqa: S311  (pictures, no secrets)
    hand = _hand(rng)
    if rng.random() < 0.5:
        hand = hand.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if label == "thumbs_down":
        hand = hand.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    hand = hand.rotate(rng.uniform(-25, 25), resample=Image.Resampling.BICUBIC, expand=True)
    side = rng.randint(110, 170)
    hand.thumbnail((side, side), Image.Resampling.LANCZOS)
    picture = _background(rng)
    place = [(_SIDE - size) // 2 + rng.randint(-12, 12) for size in hand.size]
    picture.paste(hand, (place[0], place[1]), hand)
    return picture


def write(folder: Path, per_label: int, first_seed: int) -> list[tuple[Path, str]]:
    """Write so many drawings of each label as JPEG files in a folder per label; return the files and their labels."""
    written = []
    for label in LABELS:
        (folder / label).mkdir(parents=True, exist_ok=True)
        for seed in range(first_seed, first_seed + per_label):
            path = folder / label / f"{label}-{seed}.jpg"
            draw(label, seed).save(path, quality=88)
            written.append((path, label))
    return written


def _hand(rng: random.Random) -> Image.Image:
    """Return a hand with its thumb up, on nothing."""
    hand = Image.new("RGBA", (300, 300), (0, 0, 0, 0))
    pen = ImageDraw.Draw(hand)
    skin = rng.choice(_SKINS)
    line = (*(part * 2 // 3 for part in skin), 255)
    sleeve = tuple(rng.randint(20, 220) for _ in range(3))
    width = rng.randint(4, 8)
    pen.rectangle((20, 150, 85, 270), fill=(*sleeve, 255), outline=line, width=width)
    thumb = rng.randint(30, 60)  # how far it reaches above the fist
    points = [(120, 160), (140, 95), (150, 95 - thumb), (180, 85 - thumb), (192, 100 - thumb), (185, 160)]
    pen.polygon(points, fill=(*skin, 255))
    pen.line([*points, points[0]], fill=line, width=width, joint="curve")
    pen.rounded_rectangle((85, 145, 255, 275), radius=30, fill=(*skin, 255), outline=line, width=width)
    for row in range(1, 4):
        top = 145 + row * 33
        pen.line((175, top, 250, top), fill=line, width=width)
    return hand


def _background(rng: random.Random) -> Image.Image:
    """Return a coloured ground with some shapes that mean nothing."""
    picture = Image.new("RGB", (_SIDE, _SIDE), tuple(rng.randint(90, 255) for _ in range(3)))
    pen = ImageDraw.Draw(picture)
    for _ in range(rng.randint(2, 6)):
        x, y, size = rng.randint(0, _SIDE), rng.randint(0, _SIDE), rng.randint(10, 70)
        colour = tuple(rng.randint(60, 255) for _ in range(3))
        shape = rng.choice((pen.ellipse, pen.rectangle))
        shape((x, y, x + size, y + size), fill=colour)
    return picture
