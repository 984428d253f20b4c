"""CSV: a header line, then rows; comma, semicolon, tab or pipe, quotes as in RFC 4180.

Files with tabs are read by `quoting`: few of them are quoted. A first line `sep=;` is Excel's own hint, and skipped.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from models.datasets.errors import OverlongHeader
from models.datasets.formats.encoding import (
    MAX_LINE_CHARS,
    OverlongLine,
    check_encoding,
    decode_head,
    lines,
    open_text,
    refused_encoding,
)
from models.datasets.formats.format import Format, Row
from models.datasets.formats.quoting import RecentLines, SeenCells, all_quoted, is_quoted
from models.datasets.limits import Limits
from models.datasets.problems import Problem

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}

# The module's own limit of 131,072 characters is for the whole process; texts may be longer than that.
csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_CHARS))

MAX_HEADER_CHARS = 2**20
_HINT = "sep="
_QUOTES = "Put the field in double quotes and write a quote inside it twice, as any CSV writer does."


@dataclass(frozen=True, slots=True)
class Dialect:
    """Delimiter and quoting of one file."""

    delimiter: str
    quoted: bool = True  # False: a quote is a character like any other
    hint: bool = False  # the first line is `sep=`

    def reader(self, file: Iterator[str]) -> Any:
        """Return a reader of lines; the line of a hint is to be skipped before."""
        if self.quoted:
            return csv.reader(file, delimiter=self.delimiter, strict=True)
        return csv.reader(file, delimiter=self.delimiter, strict=True, quoting=csv.QUOTE_NONE)


def recognise(head: bytes) -> bool:
    """Return whether the head is text: any text can be CSV; binary data is full of control characters."""
    text = decode_head(head)
    control = sum(char < " " and char not in "\t\r\n\f" for char in text)
    share = 0.05 if "\ufffd" in text else 0.3
    return control <= share * len(text) or refused_encoding(head) is not None


def check(path: Path, filename: str, limits: Limits) -> None:
    """Check the encoding, and that the header ends: it is looked at before any row."""
    check_encoding(path, filename, limits)
    try:
        _first_record(path, sniff(path))
    except OverlongLine:
        raise OverlongHeader(filename=filename, limit=MAX_HEADER_CHARS) from None
    except csv.Error:
        pass  # which row it is, and why, is said when rows are read


def read_header(path: Path) -> list[str]:
    """Return the column names, stripped; empty for a file without any line."""
    return _header(path, sniff(path))


def sniff(path: Path) -> Dialect:
    """Return the delimiter of the hint, or that which splits the header into most columns; a comma when none does."""
    with open_text(path) as file:
        try:
            first = next(lines(file), "").strip("\r\n").strip('"')
        except OverlongLine:
            first = ""
    if first.lower().startswith(_HINT) and len(first) == len(_HINT) + 1:
        found = Dialect(first[-1], hint=True)
    else:
        found = max(map(Dialect, DELIMITERS), key=lambda dialect: len(_header(path, dialect)))
    if found.delimiter != "\t":
        return found
    with open_text(path) as file:
        return replace(found, quoted=is_quoted(_after_hint(file, found)))


def read_rows(path: Path, columns: dict[str, str]) -> Iterator[Row | Problem]:
    """Yield rows in order. A row that cannot be split is a problem; an unclosed quote ends the reading."""
    dialect = sniff(path)
    with open_text(path) as file:
        recent = RecentLines(_after_hint(file, dialect))
        reader = dialect.reader(recent)
        header: list[str] | None = None
        seen = SeenCells()
        number = 0
        while True:
            recent.forget()
            line = reader.line_num + 1 + dialect.hint
            try:
                fields = next(reader)
            except StopIteration:
                return
            except OverlongLine:
                reason = f"The row is longer than {MAX_LINE_CHARS} characters; nothing after it was read"
                yield Problem(number + 1, line, None, reason, "Check the file's line ends and quotes.")
                return
            except csv.Error as error:
                number += 1
                yield _broken(number, line, error)
                if "unexpected end" in str(error) or "limit" in str(error):
                    return
                continue
            # A lone empty field is a blank line, unless the table has one column only.
            if _blank(fields) and (not fields or header is None or len(header) > 1):
                continue
            if header is None:
                header = [name.strip() for name in fields]
                seen.every_cell_quoted = all_quoted(recent.lines[-1], dialect.delimiter)
                places = {canonical: header.index(own) for canonical, own in columns.items()}
                continue
            number += 1
            if len(fields) != len(header) and (len(fields) < len(header) or any(fields[len(header) :])):
                yield _ragged(number, line, len(fields), len(header), dialect)
            elif seen.swallowed(fields, recent.lines, dialect.delimiter):
                last = reader.line_num + dialect.hint
                yield Problem(number, line, None, _swallowed(line, last), _QUOTES)
            else:
                seen.add(fields)
                yield Row(number, line, {canonical: fields[place] or None for canonical, place in places.items()})


def _header(path: Path, dialect: Dialect) -> list[str]:
    try:
        return [name.strip() for name in _first_record(path, dialect)]
    except (csv.Error, OverlongLine):
        return []


def _first_record(path: Path, dialect: Dialect) -> list[str]:
    with open_text(path) as file:
        records = dialect.reader(RecentLines(_after_hint(file, dialect), MAX_HEADER_CHARS))
        return next((fields for fields in records if not _blank(fields)), [])


def _after_hint(file: TextIO, dialect: Dialect) -> Iterator[str]:
    found = lines(file)
    if dialect.hint:
        next(found, None)
    return found


def _blank(fields: list[str]) -> bool:
    return not fields or (len(fields) == 1 and not fields[0].strip())


def _broken(number: int, line: int, error: csv.Error) -> Problem:
    text = str(error)
    if "unexpected end" in text or "limit" in text:
        reason = "A quoted field that starts in this row is never closed; nothing after it was read"
        return Problem(number, line, None, reason, _QUOTES)
    return Problem(number, line, None, f"The row is not valid CSV ({text})", _QUOTES)


def _swallowed(first: int, last: int) -> str:
    return (
        f"The row runs from line {first} to line {last}, and each of these lines reads as a row of its own: "
        "a quote opens a field where it should be a character of the text"
    )


def _ragged(number: int, line: int, got: int, expected: int, dialect: Dialect) -> Problem:
    name = DELIMITERS.get(dialect.delimiter, f"'{dialect.delimiter}'")
    reason = f"The row has {got} field{'' if got == 1 else 's'}, the header has {expected}"
    if got < expected:
        mend = "Write every field of the row."
    elif dialect.quoted:
        mend = f"Put texts that contain a {name} in double quotes."
    else:
        mend = f"Write a space where a text contains a {name}; the file's fields are not quoted."
    return Problem(number, line, None, reason, mend)


CSV = Format("csv", recognise, check, read_header, read_rows)
