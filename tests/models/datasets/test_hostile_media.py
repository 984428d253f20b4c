"""Files made to hurt: each is a clear error that names what is wrong, and memory stays bounded."""

from __future__ import annotations

import io
import stat
import struct
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.datasets.errors import OversizedArchive, TooManyMembers, TooMuchMedia, UnreadableArchive
from models.datasets.validation import Limits
from tests.models.datasets.media_files import archive, folders, picture, png_header, sound


def patched(content: bytes, name: str, *, size: int | None = None, flags: int = 0, method: int | None = None) -> bytes:
    """An archive whose headers say something else about one member than is there."""
    data = bytearray(content)
    for signature, start in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.find(signature)
        while place >= 0:
            named = place + (30 if start == 6 else 46)
            if data[named : named + len(name)] == name.encode():
                data[place + start] |= flags
                if method is not None:
                    data[place + start + 2 : place + start + 4] = struct.pack("<H", method)
                if size is not None:
                    data[place + start + 16 : place + start + 20] = struct.pack("<I", size)
            place = data.find(signature, place + 1)
    return bytes(data)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd.jpg", "/etc/passwd.jpg", "C:\\windows\\x.jpg", "ants/../../x.jpg", "..\\x.jpg"]
)
def test_names_that_lead_out_of_the_archive(refusal, name):
    error = refusal(archive({**folders(), name: picture()}))
    assert error.total == 1
    assert error.details[0]["member"] == name.replace("\\", "/")
    assert "name" in error.details[0]["reason"]


def test_symbolic_links_are_named(refusal):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in folders().items():
            file.writestr(name, content)
        link = zipfile.ZipInfo("ants/link.jpg")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, "/etc/passwd")
    assert "symbolic link" in refusal(buffer.getvalue()).details[0]["reason"]


def test_members_that_cannot_be_unpacked_are_named(refusal):
    content = archive(folders(b"x" * 500, name="secret.jpg"))
    error = refusal(patched(content, "ants/secret.jpg", flags=1))
    assert (error.details[0]["member"], error.details[0]["reason"]) == ("ants/secret.jpg", "is encrypted")
    assert "method 14" in refusal(patched(content, "ants/secret.jpg", method=14)).details[0]["reason"]
    twice = archive({"ants/1.jpg": picture(), "ants/2.jpg": picture(), "bees/3.jpg": picture()})
    assert "twice" in refusal(twice.replace(b"ants/2.jpg", b"ants/1.jpg")).details[0]["reason"]


def test_contents_that_are_no_pictures_are_named(refusal):
    bad = {
        "nested.jpg": archive(folders()),
        "a.jpg": picture("GIF"),
        "huge.png": png_header(50_000, 50_000),
        "cut.jpg": picture(size=(200, 200))[:4_000],
        "empty.jpg": b"",
        "text.jpg": b"hello",
        "sound.wav": sound(),
    }
    error = refusal(archive({**folders(rows=5), **{f"ants/{name}": content for name, content in bad.items()}}))
    found = {detail["member"].removeprefix("ants/"): detail["reason"] for detail in error.details}
    assert found.keys() == bad.keys()
    assert "archive inside the archive" in found["nested.jpg"]
    assert "GIF" in found["a.jpg"]
    assert "2500000000 pixels" in found["huge.png"]


def test_a_wrong_checksum_is_a_bad_member(refusal):
    content = bytearray(archive(folders(), method=zipfile.ZIP_STORED))
    content[content.index(b"\xff\xda") + 20] ^= 0xFF
    assert "CRC" in refusal(bytes(content)).details[0]["reason"]


def test_a_declared_bomb_is_refused_from_the_directory(refusal, tmp_path, measured):
    zeros = archive({**folders(), **{f"ants/{n}.bmp": b"\0" * 60_000_000 for n in range(3)}})
    assert isinstance(refusal(zeros), OversizedArchive)
    path = tmp_path / "bomb.zip"
    path.write_bytes(zeros)
    code, memory = measured(path)
    assert code == "oversized_archive"
    assert memory < 20_000_000
    assert isinstance(refusal(archive(folders()), limits=Limits(max_unpacked_bytes=5_000)), OversizedArchive)
    error = refusal(archive(folders(b"\0" * 3_000_000)), limits=Limits(max_media_bytes=2_000_000))
    assert "declares 3000000 bytes" in error.details[0]["reason"]


def test_an_undeclared_bomb_yields_no_more_than_it_declares(refusal, tmp_path, measured):
    content = patched(archive(folders(b"\0" * 200_000_000)), "ants/bad.jpg", size=1_000)
    error = refusal(content)
    assert error.details[0]["member"] == "ants/bad.jpg"
    path = tmp_path / "bomb.zip"
    path.write_bytes(content)
    code, memory = measured(path)
    assert code == "invalid_dataset"
    assert memory < 60_000_000


def test_a_directory_of_millions_is_not_taken_into_memory(tmp_path, measured):
    entry = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    count = 1_000_000
    path = tmp_path / "many.zip"
    path.write_bytes(
        b"PK\x03\x04" + b"\0" * 26 + entry * count
        + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, len(entry) * count, 30, 0)  # it says that there is one
    )  # fmt: skip
    code, memory = measured(path)
    assert code == "too_many_members"
    assert memory < 80_000_000


def test_the_number_of_members_is_limited(refusal, profile):
    assert isinstance(refusal(archive(folders()), limits=Limits(max_entries=5)), TooManyMembers)
    assert profile(archive(folders()), limits=Limits(max_entries=6)).rows == 6


def test_damaged_archives(refusal, profile):
    whole = archive(folders())
    for size in (4, 22, 100, len(whole) // 2, len(whole) - 10):
        assert isinstance(refusal(whole[:size]), UnreadableArchive), size
    for place in range(0, len(whole), 11):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        try:
            profile(bytes(damaged))
        except Exception as error:
            assert getattr(error, "status", None) == 400, (place, error)  # noqa: PT017  (either outcome is right)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG", "BMP"])
def test_the_largest_picture_that_is_decoded_fits_in_memory(tmp_path, measured, kind):
    import PIL.Image

    side = 6_200  # 38 million pixels
    buffer = io.BytesIO()
    options = {"lossless": True, "quality": 0, "method": 0} if kind == "WEBP" else {}
    if kind == "JPEG":
        options = {"progressive": True}
    mode = "L" if kind == "BMP" else "RGB"
    PIL.Image.new(mode, (side, side)).save(buffer, kind, **options)
    path = tmp_path / "photos.zip"
    path.write_bytes(archive(folders(buffer.getvalue(), name=f"large.{kind.lower()}"), method=zipfile.ZIP_STORED))
    code, memory = measured(path)
    assert code == "accepted"
    assert memory < 700_000_000


def test_a_long_sound_in_many_channels_fits_in_memory(tmp_path, measured):
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros((59 * 96_000, 8), dtype=np.int16), 96_000, format="FLAC")
    path = tmp_path / "sounds.zip"
    members = {f"{'ab'[n % 2]}/{n}.flac": buffer.getvalue() for n in range(4)}
    path.write_bytes(archive(members))
    code, memory = measured(path)
    assert code == "accepted"
    assert memory < 100_000_000


def test_all_pictures_together_are_limited(refusal):
    assert isinstance(refusal(archive(folders()), limits=Limits(max_total_pixels=1_000)), TooMuchMedia)


def test_parquet_of_pictures_with_a_huge_declared_size(tmp_path, measured):
    path = tmp_path / "bomb.parquet"
    rows = pa.array([b"\0" * 20_000_000]).dictionary_encode().take(pa.array([0] * 2_000))
    pq.write_table(pa.table({"image": rows, "label": ["a", "b"] * 1_000}), path, compression="zstd")
    assert path.stat().st_size < 1_000_000
    code, memory = measured(path)
    assert code == "too_much_media"
    assert memory < 600_000_000
