"""Detection of a file's format by its content; the name is for messages only."""

from __future__ import annotations

from pathlib import Path

from models.datasets.errors import NoRows, WrongFormat
from models.datasets.formats import FORMATS
from models.datasets.formats.foreign import refuse_foreign
from models.datasets.formats.format import Format

_HEAD_BYTES = 64 * 2**10


def detect(path: Path, filename: str) -> Format:
    """Return the format of a file. Raises WrongFormat for what is no table and NoRows for an empty file."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head.strip():
        raise NoRows(filename=filename)
    for candidate in FORMATS.values():
        if candidate.binary and candidate.recognise(head):
            return candidate
    refuse_foreign(filename, head, whole=len(head) < _HEAD_BYTES)
    for candidate in FORMATS.values():
        if not candidate.binary and candidate.recognise(head):
            return candidate
    raise WrongFormat(filename=filename, found="binary data", advice="Upload a UTF-8 CSV, JSONL or Parquet file.")
