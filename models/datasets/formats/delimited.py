"""CSV: a header line, then rows; comma, semicolon or tab, quotes as in RFC 4180."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

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
from models.datasets.problems import Problem

DELIMITERS = (",", ";", "\t")

# The module's own limit of 131,072 characters is for the whole process; texts may be longer than that.
csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_CHARS))

_QUOTES = "Put the field in double quotes and write a quote inside it twice, as any CSV writer does."


def recognise(head: bytes) -> bool:
    """Any text can be CSV; whether it is a table shows in the header. Binary data is full of control characters."""
    text = decode_head(head)
    control = sum(char < " " and char not in "\t\r\n\f" for char in text)
    share = 0.05 if "\ufffd" in text else 0.3
    return control <= share * len(text) or refused_encoding(head) is not None


def read_header(path: Path) -> list[str]:
    """The column names, stripped; empty for a file without any line."""
    return _header(path, sniff(path))


def sniff(path: Path) -> str:
    """The delimiter that splits the header into most columns; a comma when none does."""
    return max(DELIMITERS, key=lambda delimiter: len(_header(path, delimiter)))


def read_rows(path: Path, columns: dict[str, str]) -> Iterator[Row | Problem]:
    """Rows in order. A row that cannot be split is a problem; an unclosed quote ends the reading."""
    delimiter = sniff(path)
    with open_text(path) as file:
        reader = csv.reader(lines(file), delimiter=delimiter, strict=True)
        header: list[str] | None = None
        number = 0
        while True:
            line = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except OverlongLine:
                reason = f"The line is longer than {MAX_LINE_CHARS} characters; nothing after it was read"
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
                places = {canonical: header.index(own) for canonical, own in columns.items()}
                continue
            number += 1
            if len(fields) != len(header) and (len(fields) < len(header) or any(fields[len(header) :])):
                yield _ragged(number, line, len(fields), len(header), delimiter)
                continue
            yield Row(number, line, {canonical: fields[place] or None for canonical, place in places.items()})


def _header(path: Path, delimiter: str) -> list[str]:
    with open_text(path) as file:
        try:
            records = csv.reader(lines(file), delimiter=delimiter, strict=True)
            return [name.strip() for name in next((fields for fields in records if not _blank(fields)), [])]
        except (csv.Error, OverlongLine):
            return []


def _blank(fields: list[str]) -> bool:
    return not fields or (len(fields) == 1 and not fields[0].strip())


def _broken(number: int, line: int, error: csv.Error) -> Problem:
    text = str(error)
    if "unexpected end" in text or "limit" in text:
        reason = "A quoted field that starts in this row is never closed; nothing after it was read"
        return Problem(number, line, None, reason, _QUOTES)
    return Problem(number, line, None, f"The row is not valid CSV ({text})", _QUOTES)


def _ragged(number: int, line: int, got: int, expected: int, delimiter: str) -> Problem:
    name = {",": "comma", ";": "semicolon", "\t": "tab"}[delimiter]
    reason = f"The row has {got} field{'' if got == 1 else 's'}, the header has {expected}"
    mend = f"Put texts that contain a {name} in double quotes." if got > expected else "Write every field of the row."
    return Problem(number, line, None, reason, mend)


CSV = Format("csv", recognise, check_encoding, read_header, read_rows)
