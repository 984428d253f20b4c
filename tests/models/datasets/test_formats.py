from __future__ import annotations

import gzip
import io
import pickle
import zipfile

import pytest
from PIL import Image

from models.datasets.errors import WrongFormat

TABLE = "text,label\na,x\nb,y\nc,x\nd,y\n"


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, TABLE)
    return buffer.getvalue()


def picture(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "found", "mend"),
    [
        (zipped("tickets.csv"), "zip archive", "Unpack"),
        (zipped("[Content_Types].xml", "xl/workbook.xml"), "Excel workbook", "CSV"),
        (zipped("[Content_Types].xml", "word/document.xml"), "Word document", "CSV"),
        (zipped(), "zip archive", "Unpack"),
        (gzip.compress(TABLE.encode()), "gzip", "Unpack"),
        (b"%PDF-1.7\n%\xe2\xe3", "PDF", "CSV"),
        (picture("PNG"), "PNG", "CSV"),
        (picture("JPEG"), "JPEG", "CSV"),
        (picture("GIF"), "GIF", "CSV"),
        (pickle.dumps({"text": ["a"]}), "pickle", "never opened"),
        (b"SQLite format 3\x00" + b"\x00" * 100, "SQLite", "Export"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 100, "old Excel", "CSV"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "WAV", "CSV"),
        ("<!DOCTYPE html><html><body>404</body></html>", "HTML", "CSV"),
        ('<?xml version="1.0"?><rows/>', "XML", "CSV"),
        ("\n [1, 2]", "JSON array", "jq"),
        (bytes(range(1, 32)) * 50, "binary", "CSV"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 20 else "",
)
def test_what_is_no_table_is_named_and_mended(refusal, content, found, mend):
    error = refusal(content, filename="tickets.csv")
    assert isinstance(error, WrongFormat)
    assert error.code == "wrong_format"
    assert found in str(error)
    assert mend in str(error)


@pytest.mark.parametrize("name", ["ORC", "ID3", "PARE", "RIFF"])
def test_a_header_may_begin_like_a_binary_format(profile, name):
    assert profile(TABLE.replace("text", name), columns={"text": name}).rows == 4


@pytest.mark.parametrize("filename", ["tickets.parquet", "tickets.zip", "tickets", "ünïcödé.jsonl", "a'b{c}.csv"])
def test_the_name_of_a_file_does_not_decide(profile, refusal, filename):
    assert profile(TABLE, filename=filename).format == "csv"
    assert filename in str(refusal("text,label\n", filename=filename))
