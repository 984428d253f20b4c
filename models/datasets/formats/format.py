"""The interface of a file format: how to recognise it, which columns it has, and its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.datasets.examples import Media
from models.datasets.limits import Limits
from models.datasets.problems import Problem


@dataclass(frozen=True, slots=True)
class Row:
    """One row as the file has it: canonical column name → value. Absent and null values are None.

    `late`: the file's own names of values that the row has besides, and that came too late to be among its columns.
    """

    number: int
    line: int | None
    values: dict[str, Any]
    member: str | None = None  # in an archive: the name of the picture or sound that the row is about
    unused: tuple[str, ...] = ()  # what the row holds besides and is not read, in words
    late: tuple[str, ...] = ()


def size_of(row: Row | Problem) -> int:
    """Return what a row's cells hold: bytes of pictures and sounds, characters of texts, 8 for every item of a list."""
    size = 0
    for value in () if isinstance(row, Problem) else row.values.values():
        cell = value.get("bytes") if isinstance(value, dict) else value
        if isinstance(cell, str | bytes):
            size += len(cell)
        elif isinstance(cell, Media):
            size += len(cell.data)
        elif isinstance(cell, list):
            size += sum(8 + len(item) if isinstance(item, str) else 8 for item in cell)
    return size


@dataclass(frozen=True, slots=True)
class Format:
    """One file format. All functions stream: memory does not grow with the file.

    - `recognise(head)`: whether the first bytes look like this format.
    - `check(path, filename, limits)`: refuse the file as a whole before any row is read.
    - `columns(path)`: the names that rows carry, in the file's order, duplicates included.
    - `rows(path, columns)`: rows with the wanted columns (canonical name → own name), or the problem a row has.
    - `rows_with_remarks(path, columns, remarks)`: the rows; once they are read to their end, `remarks` has warnings of
      what the file holds beside them and is not read.
    """

    name: str
    recognise: Callable[[bytes], bool]
    check: Callable[[Path, str, Limits], None]
    columns: Callable[[Path], list[str]]
    rows: Callable[[Path, dict[str, str]], Iterator[Row | Problem]]
    binary: bool = False  # recognised before any text format is tried
    media: bool = False  # rows are pictures or sounds
    free_answers: bool = False  # labels were written as prose: they must prove to be a closed set
    rows_with_remarks: Callable[[Path, dict[str, str], list[dict[str, Any]]], Iterator[Row | Problem]] | None = None

    def read(self, path: Path, columns: dict[str, str], remarks: list[dict[str, Any]]) -> Iterator[Row | Problem]:
        """Return the rows; `remarks` has its warnings, if the format has any, once they are read to their end."""
        if self.rows_with_remarks is None:
            return self.rows(path, columns)
        return self.rows_with_remarks(path, columns, remarks)
