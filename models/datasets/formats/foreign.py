"""Files that are no tables, known by their first bytes, each with what to do about it."""

from __future__ import annotations

import shlex

from models.datasets.errors import WrongFormat
from models.datasets.formats.documents import refuse_documents
from models.datasets.formats.encoding import decode_head


def _unpack(command: str) -> str:
    return f"Unpack it and upload the file inside: {command} {{file}}"


_EXPORT = "Export the table as CSV or Parquet and upload that."
_NO_MEDIA = (
    "Put pictures or sounds into a zip with one folder per label, or with a CSV file that names them; "
    "texts and labels into a CSV, JSONL or Parquet file."
)

_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"%PDF", "a PDF", "Put the texts and labels into a CSV file and upload that."),
    (b"\x1f\x8b", "compressed with gzip", _unpack("gunzip -k")),
    (b"BZh", "compressed with bzip2", _unpack("bunzip2 -k")),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", _unpack("zstd -d")),
    (b"\xfd7zXZ\x00", "compressed with xz", _unpack("xz -dk")),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _unpack("7z x")),
    (b"Rar!", "a RAR archive", _unpack("unrar x")),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file", "Save it as CSV (UTF-8) and upload that."),
    (b"PARE", "an encrypted Parquet file", "Write it without encryption."),
    (b"ARROW1", "an Arrow IPC (Feather) file", "Write it as Parquet."),
    (b"FEA1", "a Feather file", "Write it as Parquet."),
    (b"ORC", "an ORC file", "Write it as Parquet."),
    (b"Obj\x01", "an Avro file", "Write it as Parquet or JSONL."),
    (b"SQLite format 3\x00", "an SQLite database", _EXPORT),
    (b"\x89HDF", "an HDF5 file", _EXPORT),
    (b"\x93NUMPY", "a NumPy array", _EXPORT),
    (b"\x80\x02", "a Python pickle", "Pickles are never opened. " + _EXPORT),
    (b"\x80\x03", "a Python pickle", "Pickles are never opened. " + _EXPORT),
    (b"\x80\x04", "a Python pickle", "Pickles are never opened. " + _EXPORT),
    (b"\x80\x05", "a Python pickle", "Pickles are never opened. " + _EXPORT),
    (b"\x7fELF", "a program", "Upload a table of texts and labels."),
    (b"MZ\x90", "a program", "Upload a table of texts and labels."),
    (b"\x89PNG", "a PNG picture", _NO_MEDIA),
    (b"\xff\xd8\xff", "a JPEG picture", _NO_MEDIA),
    (b"GIF8", "a GIF picture", _NO_MEDIA),
    (b"II*\x00", "a TIFF picture", _NO_MEDIA),
    (b"RIFF", "a WAV, WebP or AVI file", _NO_MEDIA),
    (b"fLaC", "a FLAC sound", _NO_MEDIA),
    (b"OggS", "an Ogg sound", _NO_MEDIA),
    (b"ID3", "an MP3 sound", _NO_MEDIA),
    (b"{\\rtf", "an RTF document", "Save it as CSV (UTF-8) and upload that."),
)
_MARKUP = (("<!doctype", "an HTML page"), ("<html", "an HTML page"), ("<?xml", "an XML document"))


def refuse_foreign(filename: str, head: bytes, *, whole: bool) -> None:
    """Raise WrongFormat if the content is a known kind of file that is no table; `whole`: `head` is all of it."""
    for magic, found, advice in _MAGIC:
        # A header line may begin with "ORC" or "ID3"; a binary file has NUL bytes somewhere near its start.
        if head.startswith(magic) and (not magic.isalnum() or b"\x00" in head):
            raise WrongFormat(filename=filename, found=found, advice=advice.format(file=shlex.quote(filename)))
    text = decode_head(head).lstrip("\ufeff").lstrip()
    for start, found in _MARKUP:
        if text[:20].lower().startswith(start):
            raise WrongFormat(filename=filename, found=found, advice=_EXPORT)
    refuse_documents(filename, text, whole=whole)
