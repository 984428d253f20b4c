"""Recognition of how a picture or a sound is encoded, by its first bytes; the file's name does not count.

Accepted are JPEG, PNG, WebP and BMP, and WAV, FLAC and Ogg (Vorbis, Opus): formats whose size is known before they are
decoded. Everything else is named, so that its owner knows what to convert.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from models.datasets.problems import BadValue, excerpt

Medium = Literal["image", "audio"]
HEAD_BYTES = 512

NOUNS: dict[str, str] = {"image": "a picture", "audio": "a sound"}
_OBJECT = re.compile(r" ?<[^<>]* at 0x[0-9a-fA-F]+>")  # libraries name what they read from, by its place in memory
MENDS: dict[str, str] = {
    "image": "Save it as JPEG or PNG, or remove it.",
    "audio": "Save it as WAV (16-bit PCM), FLAC or Ogg, or remove it.",
}


@dataclass(frozen=True, slots=True)
class Encoding:
    """One kind of file that turns up where pictures and sounds are expected."""

    name: str
    words: str
    medium: Medium | None = None
    accepted: bool = False


JPEG = Encoding("JPEG", "a JPEG picture", "image", True)
PNG = Encoding("PNG", "a PNG picture", "image", True)
WEBP = Encoding("WEBP", "a WebP picture", "image", True)
BMP = Encoding("BMP", "a BMP picture", "image", True)
WAV = Encoding("WAV", "a WAV sound", "audio", True)
FLAC = Encoding("FLAC", "a FLAC sound", "audio", True)
OGG = Encoding("OGG", "an Ogg sound", "audio", True)
_GIF = Encoding("GIF", "a GIF picture", "image")
_MP3 = Encoding("MP3", "an MP3 sound", "audio")
_NESTED = Encoding("archive", "an archive inside the archive")

_MAGIC: tuple[tuple[bytes, Encoding], ...] = (
    (b"\xff\xd8\xff", JPEG),
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"BM", BMP),
    (b"fLaC", FLAC),
    (b"OggS", OGG),
    (b"GIF8", _GIF),
    (b"II*\0", Encoding("TIFF", "a TIFF picture", "image")),
    (b"MM\0*", Encoding("TIFF", "a TIFF picture", "image")),
    (b"ID3", _MP3),
    (b"\xff\xfb", _MP3),
    (b"\xff\xf3", _MP3),
    (b"\xff\xf2", _MP3),
    (b"FORM", Encoding("AIFF", "an AIFF sound", "audio")),
    (b"RIFX", Encoding("RIFX", "a big-endian WAV sound", "audio")),
    (b"RF64", Encoding("RF64", "an RF64 sound", "audio")),
    (b"PK\x03\x04", _NESTED),
    (b"PK\x05\x06", _NESTED),
    (b"\x1f\x8b", _NESTED),
    (b"BZh", _NESTED),
    (b"\xfd7zXZ\0", _NESTED),
    (b"7z\xbc\xaf\x27\x1c", _NESTED),
    (b"Rar!", _NESTED),
    (b"\x28\xb5\x2f\xfd", _NESTED),
    (b"%PDF", Encoding("PDF", "a PDF")),
    (b"<svg", Encoding("SVG", "an SVG drawing", "image")),
)
_CONTAINERS: tuple[tuple[bytes, int, bytes, Encoding], ...] = (
    (b"RIFF", 8, b"WAVE", WAV),
    (b"RIFF", 8, b"WEBP", WEBP),
    (b"RIFF", 8, b"AVI ", Encoding("AVI", "an AVI film")),
    (b"", 4, b"ftypheic", Encoding("HEIC", "a HEIC picture", "image")),
    (b"", 4, b"ftypmif1", Encoding("HEIC", "a HEIC picture", "image")),
    (b"", 4, b"ftypavif", Encoding("AVIF", "an AVIF picture", "image")),
    (b"", 4, b"ftypM4A", Encoding("M4A", "an M4A sound", "audio")),
    (b"", 4, b"ftyp", Encoding("MP4", "an MP4 film")),
    (b"", 257, b"ustar", _NESTED),
)
_MEDIA_OF_SUFFIX: dict[str, Medium] = {
    **dict.fromkeys((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".avif"), "image"),
    **dict.fromkeys((".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aiff", ".aif"), "audio"),
}


def recognise(head: bytes) -> Encoding | None:
    """Return the encoding that the first bytes belong to; None for an unknown one."""
    for start, offset, mark, encoding in _CONTAINERS:
        if head.startswith(start) and head[offset : offset + len(mark)] == mark:
            return encoding
    return next((encoding for magic, encoding in _MAGIC if head.startswith(magic)), None)


def medium_of(name: str, head: bytes) -> Medium | None:
    """Return picture, sound or None, as a guess at what an archive is about: by content, else by the name's end."""
    encoding = recognise(head)
    return encoding.medium if encoding else _MEDIA_OF_SUFFIX.get(PurePosixPath(name).suffix.lower())


def medium_by_suffix(name: str) -> Medium | None:
    """Return what a name's end says that it is."""
    return _MEDIA_OF_SUFFIX.get(PurePosixPath(name).suffix.lower())


def require(data: bytes, medium: Medium, name: str) -> Encoding:
    """Return the accepted encoding of `data`. Raises BadValue for everything else, an empty file included."""
    if not data:
        raise BadValue("is an empty file", "Upload it whole, or remove it.")
    encoding = recognise(data[:HEAD_BYTES])
    if encoding is None:
        raise BadValue(f"is not {NOUNS[medium]} of a known format", MENDS[medium])
    if encoding.medium != medium:
        raise BadValue(f"is {encoding.words} where {NOUNS[medium]} is expected", MENDS[medium])
    if not encoding.accepted:
        suffix = PurePosixPath(name).suffix
        disguised = f", whatever its name ('{excerpt(suffix, 20)}') says" if _differs(suffix, encoding) else ""
        raise BadValue(f"is {encoding.words}{disguised}; that format is not accepted", MENDS[medium])
    return encoding


def _differs(suffix: str, encoding: Encoding) -> bool:
    return suffix.lower() in _MEDIA_OF_SUFFIX and not encoding.name.lower().startswith(suffix.lower()[1:4])


def described(error: Exception) -> str:
    """Return what a library says of damaged bytes, for a message."""
    return excerpt(_OBJECT.sub("", str(error)) or type(error).__name__, 80)
