"""Single pictures and sounds: what is accepted, what comes out, what is refused and why."""

from __future__ import annotations

import base64
import io
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from PIL import Image

from models.datasets.errors import InvalidMedia
from models.datasets.limits import Limits
from models.datasets.media import inputs, pictures, sounds
from models.datasets.problems import BadValue
from tests.models.datasets.media_files import archive, folders, picture, png_header, sound

LIMITS = Limits()


def encoded(kind: str, *, rate: int = 16_000, seconds: float = 0.5, channels: int = 1, **options: str) -> bytes:
    tone_N = 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(rate * seconds)) / rate)
    buffer = io.BytesIO()
    soundfile.write(buffer, np.repeat(tone_N[:, None], channels, axis=1), rate, format=kind, **options)
    return buffer.getvalue()


def refused(verify, data: bytes, *, name: str = "upload", limits: Limits = LIMITS) -> str:
    with pytest.raises(BadValue) as caught:
        verify(data, name, limits)
    assert caught.value.mend
    return caught.value.reason


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_accepted_pictures(kind):
    data = picture(kind, size=(300, 200))
    assert pictures.verify(data, "named.gif", LIMITS) == 60_000
    decoded = pictures.decode(data, "", LIMITS)
    assert (decoded.mode, decoded.size) == ("RGB", (300, 200))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "CMYK", "I;16"])
def test_every_colour_mode_becomes_rgb(mode):
    kind = "JPEG" if mode == "CMYK" else "PNG"
    buffer = io.BytesIO()
    grey = np.full((8, 8), 32_896, dtype=np.uint16) if mode == "I;16" else np.full((8, 8), 128, dtype=np.uint8)
    image = Image.fromarray(grey) if mode == "I;16" else Image.fromarray(grey).convert("RGB").convert(mode)
    image.save(buffer, kind)
    decoded = pictures.decode(buffer.getvalue(), "", LIMITS)
    assert decoded.mode == "RGB"
    if mode != "1":
        assert abs(int(np.asarray(decoded).mean()) - 128) <= 2


def test_transparency_is_white():
    buffer = io.BytesIO()
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(buffer, "PNG")
    assert np.asarray(pictures.decode(buffer.getvalue(), "", LIMITS)).min() == 255


def test_the_camera_s_orientation_is_followed():
    image = Image.new("RGB", (40, 20), "black")
    image.paste("white", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned clockwise
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    upright = np.asarray(pictures.decode(buffer.getvalue(), "", LIMITS))
    assert upright.shape[:2] == (40, 20)
    assert upright[:15].mean() > 200
    assert upright[25:].mean() < 50


def test_a_damaged_exif_block_does_not_spoil_a_picture():
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\xff" * 40)
    assert pictures.verify(buffer.getvalue(), "", LIMITS) == 64
    assert pictures.decode(buffer.getvalue(), "", LIMITS).size == (8, 8)


def test_large_photos_come_out_reduced_when_asked():
    data = picture(size=(1_600, 1_200))
    assert min(pictures.decode(data, "", LIMITS, shortest=300).size) == 300
    assert pictures.decode(data, "", LIMITS).size == (1_600, 1_200)


def test_what_is_no_accepted_picture_is_named():
    assert "whatever its name ('.jpg') says" in refused(pictures.verify, picture("GIF"), name="a/cat.jpg")
    assert refused(pictures.verify, picture("GIF"), name="cat.gif").startswith("is a GIF picture; that")
    assert "TIFF" in refused(pictures.verify, picture("TIFF"))
    assert "WAV sound where a picture" in refused(pictures.verify, sound())
    assert "archive inside" in refused(pictures.verify, archive(folders()))
    assert "empty" in refused(pictures.verify, b"")
    assert "known format" in refused(pictures.verify, b"hello, I am a picture")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_truncated_pictures(kind):
    data = picture(kind, size=(100, 100))
    for share in (0.02, 0.3, 0.9):
        assert refused(pictures.verify, data[: int(len(data) * share)])


def test_what_is_no_picture_is_said_without_addresses_of_memory():
    reason = refused(pictures.verify, picture("PNG")[:9])
    assert "cannot identify image file" in reason
    assert "0x" not in reason


def test_pixels_are_judged_from_the_header():
    assert "has 2500000000 pixels" in refused(pictures.verify, png_header(50_000, 50_000))
    assert "pixels" in refused(pictures.verify, png_header(7_000, 7_000))
    assert refused(pictures.verify, png_header(0, 10))
    assert "cut off or damaged" in refused(pictures.verify, png_header(5_000, 5_000))


def test_a_jpeg_that_is_decoded_over_and_over():
    data = picture()
    scan = data[data.index(b"\xff\xda") : -2]
    assert "scans" in refused(pictures.verify, data[:-2] + scan * 70 + data[-2:])


def test_flipped_bytes_in_pictures_raise_nothing_else():
    for kind in ("JPEG", "PNG", "WEBP", "BMP"):
        data = picture(kind, size=(16, 16))
        for place in range(0, len(data), 3):
            damaged = bytearray(data)
            damaged[place] ^= 0xFF
            try:
                pictures.verify(bytes(damaged), "", LIMITS)
                pictures.decode(bytes(damaged), "", LIMITS)
            except BadValue as error:
                assert error.mend  # noqa: PT017  (either outcome is right; only the kind of error matters)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("WAV", {"subtype": "PCM_U8"}),
        ("WAV", {"subtype": "PCM_24"}),
        ("WAV", {"subtype": "FLOAT"}),
        ("WAV", {"subtype": "ULAW"}),
        ("WAVEX", {"subtype": "PCM_16"}),
        ("FLAC", {}),
        ("OGG", {"subtype": "VORBIS"}),
        ("OGG", {"subtype": "OPUS"}),
    ],
)
def test_accepted_sounds(kind, options):
    data = encoded(kind, channels=2, **options)
    assert sounds.verify(data, "", LIMITS) == 16_000
    found = sounds.decode(data, "", LIMITS)
    assert (found.samples_N.dtype, found.samples_N.shape, found.rate) == (np.float32, (8_000,), 16_000)
    assert 0.3 < np.abs(found.samples_N).max() < 0.7


def test_what_is_no_accepted_sound_is_named():
    assert "MP3" in refused(sounds.verify, encoded("MP3"), name="song.mp3")
    assert "AIFF" in refused(sounds.verify, encoded("AIFF"))
    assert "codec" in refused(sounds.verify, encoded("WAV", subtype="MS_ADPCM"))
    assert "JPEG picture where a sound" in refused(sounds.verify, picture())
    assert "no samples" in refused(sounds.verify, encoded("WAV", seconds=0))


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG"])
def test_truncated_sounds(kind):
    data = encoded(kind)
    for share in (0.1, 0.5, 0.95):
        assert "cut off" in refused(sounds.verify, data[: int(len(data) * share)])


def test_what_is_no_sound_is_said_without_addresses_of_memory():
    data = bytearray(encoded("WAV"))
    data[20:22] = b"\xff\x7f"  # a codec that there is none of
    reason = refused(sounds.verify, bytes(data))
    assert "cut off or damaged (WAV: Error opening: " in reason
    assert "0x" not in reason


def test_headers_that_lie():
    data = bytearray(sound(seconds=1.0))
    data[40:44] = struct.pack("<I", 2**31)  # the data's size
    assert "promises 2147483648 bytes" in refused(sounds.verify, bytes(data))
    data[40:44] = struct.pack("<I", 2**32 - 1)  # what a writer to a pipe leaves there
    assert sounds.verify(bytes(data), "", LIMITS) == 8_000
    data[22:24] = struct.pack("<H", 65_535)  # channels
    assert refused(sounds.verify, bytes(data))
    rates = bytearray(sound())
    rates[24:28] = struct.pack("<I", 0)
    assert refused(sounds.verify, bytes(rates))
    flac = bytearray(encoded("FLAC"))
    flac[21] |= 0x0F  # STREAMINFO's number of samples, thirty-six bits
    flac[22:26] = b"\xff" * 4
    assert "seconds" in refused(sounds.verify, bytes(flac))


def test_long_sounds_are_refused():
    assert "lasts 61.0 seconds" in refused(sounds.verify, sound(seconds=61, rate=1_000))
    assert sounds.verify(sound(seconds=59, rate=1_000), "", LIMITS) == 59_000


def test_samples_that_are_no_numbers():
    buffer = io.BytesIO()
    soundfile.write(buffer, np.array([0.0, np.nan, 1.0]), 8_000, format="WAV", subtype="FLOAT")
    assert "finite" in refused(sounds.verify, buffer.getvalue())


def test_flipped_bytes_in_sounds_raise_nothing_else():
    for kind in ("WAV", "FLAC", "OGG"):
        data = encoded(kind, seconds=0.02)
        for place in range(0, len(data), 5):
            damaged = bytearray(data)
            damaged[place] ^= 0xFF
            try:
                sounds.verify(bytes(damaged), "", LIMITS)
            except BadValue as error:
                assert error.mend  # noqa: PT017  (either outcome is right; only the kind of error matters)


def columns(data: list[bytes], shape: str) -> pa.Array:
    if shape == "bytes":
        return pa.array(data)
    if shape == "large bytes":
        return pa.array(data, pa.large_binary())
    return pa.array([{"bytes": item, "path": f"folder/{place}.jpg"} for place, item in enumerate(data)])


@pytest.mark.parametrize("shape", ["bytes", "large bytes", "struct"])
@pytest.mark.parametrize("medium", ["image", "audio"])
def test_parquet_with_bytes(examples, shape, medium):
    data = [picture(seed=n) if medium == "image" else sound(seed=n) for n in range(10)]
    buffer = io.BytesIO()
    pq.write_table(pa.table({medium: columns(data, shape), "label": list("ab") * 5}), buffer)
    rows = examples(buffer.getvalue())
    assert [row.input.data for row in rows] == data
    assert rows[4].input.name == ("4.jpg" if shape == "struct" else "row 5")


def test_parquet_with_what_is_no_picture(refusal):
    data = [picture(seed=n) for n in range(5)]
    cells = [{"bytes": item, "path": "x.jpg"} for item in (data[0], data[1], None, data[2], b"junk", data[3])]
    buffer = io.BytesIO()
    pq.write_table(pa.table({"image": pa.array(cells), "label": list("ab") * 3}), buffer)
    error = refusal(buffer.getvalue())
    assert [detail["row"] for detail in error.details] == [3, 5]
    assert "instead of holding it" in error.details[0]["reason"]
    buffer = io.BytesIO()
    pq.write_table(pa.table({"image": ["a.jpg", "b.jpg"], "label": ["a", "b"]}), buffer)
    assert "a text where the bytes of a picture" in refusal(buffer.getvalue()).details[0]["reason"]


def test_large_pages_of_pictures_are_accepted_where_pages_of_text_are_not(profile):
    data = [np.random.default_rng(n).bytes(1_000_000) for n in range(48)]
    bmp = [b"BM" + item for item in data]
    buffer = io.BytesIO()
    pq.write_table(pa.table({"image": bmp, "label": list("ab") * 24}), buffer, use_dictionary=False)
    with pytest.raises(Exception, match="48 bad rows"):  # read, and found to be no pictures
        profile(buffer.getvalue())


def test_inputs_of_a_request():
    data, text = picture(), base64.b64encode(picture()).decode()
    spellings = (text.rstrip("="), text[:20] + "\n" + text[20:], base64.urlsafe_b64encode(data).decode())
    urls = [
        f"{head}{text}" for head in ("data:image/jpeg;base64,", "DATA:Image/PNG;name=a.png;BASE64,", "data:;base64,")
    ]
    for value in (text, {"image": text}, *urls, *spellings):
        media = inputs.from_json(value, "image", LIMITS, param="inputs[0]")
        assert (media.data, media.extent) == (data, 24 * 16)
    assert inputs.from_upload(sound(), "a.wav", "audio", LIMITS, param="file").extent == 1_600


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("%%%", "not valid base64"),
        ("", "empty"),
        ({"audio": "x"}, "has the fields 'audio'"),
        ({}, "has the fields none"),
        (17, "is 17"),
        (None, "is None"),
        ({"image": ["x"]}, "where base64 is expected"),
        ("data:image/png,rawbytes", "without ';base64'"),
        ("data:audio/wav;base64,AAAA", "a data URL of the type 'audio/wav' where a picture is expected"),
        ("http://example.org/a.png", "nothing is fetched"),
        (base64.b64encode(picture("GIF")).decode(), "is a GIF picture"),
        (base64.b64encode(png_header(50_000, 50_000)).decode(), "2500000000 pixels"),
        ("A" * 2_000, "known format"),
    ],
)
def test_bad_inputs_name_the_input(value, reason):
    with pytest.raises(InvalidMedia, match="inputs\\[3\\]") as caught:
        inputs.from_json(value, "image", LIMITS, param="inputs[3]")
    assert reason in str(caught.value)
    assert caught.value.param == "inputs[3]"
    assert caught.value.status == 400


def test_inputs_are_measured_before_they_are_decoded():
    with pytest.raises(InvalidMedia, match="more than 1000 bytes"):
        inputs.from_json("A" * 4_000, "image", Limits(max_media_bytes=1_000), param="inputs[0]")
