"""Small pictures, sounds and archives, made on the spot."""

from __future__ import annotations

import io
import struct
import wave
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np
from PIL import Image


def picture(kind: str = "JPEG", *, size: tuple[int, int] = (24, 16), seed: int = 0, mode: str = "RGB") -> bytes:
    """An encoded picture of noise."""
    noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def stripes(label: str, seed: int) -> bytes:
    """A noisy picture of stripes, `wide` or `narrow`: a base with random weights sees the difference."""
    generator = np.random.default_rng(seed)
    ramp_HW = np.indices((40, 40))[0] * (2.0 if label == "narrow" else 0.3) + generator.uniform(0, 9)
    noise_HWC = generator.normal(128, 10, (40, 40, 3)) + 80 * np.sin(ramp_HW)[:, :, None]
    buffer = io.BytesIO()
    Image.fromarray(noise_HWC.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def sound(*, seconds: float = 0.2, rate: int = 8_000, channels: int = 1, seed: int = 0) -> bytes:
    """A 16-bit WAV of noise."""
    noise = np.random.default_rng(seed).integers(-9_999, 9_999, (int(seconds * rate), channels), dtype=np.int16)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(noise.tobytes())
    return buffer.getvalue()


def archive(members: Mapping[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip with these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def folders(content: bytes | None = None, *, name: str = "bad.jpg", rows: int = 3) -> dict[str, bytes]:
    """`ants/…` and `bees/…` with some good pictures each, and `content` among them under `name`."""
    members = {
        f"{label}/{number}.jpg": picture(seed=number + 100 * place)
        for place, label in enumerate(("ants", "bees"))
        for number in range(rows)
    }
    return members if content is None else {**members, f"ants/{name}": content}


def png_header(width: int, height: int, *, rows: bytes = b"", comment: bytes = b"") -> bytes:
    """A PNG that declares a size; its data is `rows`, packed, and so is its `comment`, if it has one."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(comment, 9)) if comment else b""
    return b"\x89PNG\r\n\x1a\n" + head + text + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
