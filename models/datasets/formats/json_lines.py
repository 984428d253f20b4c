"""JSONL: one JSON object per line."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from models.datasets.formats import repeated_keys
from models.datasets.formats.encoding import OverlongLine, check_encoding, decode_head, numbered_lines
from models.datasets.formats.format import Format, Row
from models.datasets.problems import Problem, excerpt

PEEKED = 1_000  # lines from which the column names are gathered: rows may leave optional ones out
MAX_KEYS = 10_000  # of one object, and of all that are peeked at


def recognise(head: bytes) -> bool:
    """Return whether an opening brace comes first."""
    return decode_head(head).lstrip().startswith("{")


def read_objects(path: Path) -> Iterator[Row | Problem]:
    """Yield every non-blank line as a Row whose values are the object's own, or the problem with it."""
    number = 0
    for found in numbered_lines(path):
        if isinstance(found, OverlongLine):
            yield Problem(number + 1, None, None, str(found), "Write one object per line, with shorter texts.")
            return
        line, text = found
        if not text.strip():
            continue
        number += 1
        yield _parse(number, line, text)


def read_keys(path: Path) -> list[str]:
    """Return the keys of the first objects, in order of first appearance."""
    keys: dict[str, None] = {}
    for row in islice(read_objects(path), PEEKED):
        if isinstance(row, Row):
            keys.update(dict.fromkeys(row.values))
        if len(keys) > MAX_KEYS:  # more than any limit on columns
            break
    return list(keys)


def read_rows(path: Path, columns: dict[str, str]) -> Iterator[Row | Problem]:
    """Yield rows in order with the wanted keys, and the names of others that none of the peeked lines has."""
    peeked: set[str] = set()
    for place, row in enumerate(read_objects(path)):
        if isinstance(row, Problem):
            yield row
            continue
        late: tuple[str, ...] = ()
        if place < PEEKED:
            peeked.update(row.values)
        elif not row.values.keys() <= peeked:
            late = tuple(key for key, value in row.values.items() if key not in peeked and value is not None)
        yield Row(row.number, row.line, {name: row.values.get(own) for name, own in columns.items()}, late=late)


def _parse(number: int, line: int, text: str) -> Row | Problem:
    try:
        value: Any = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if error.msg.startswith("Not enough memory"):
            raise MemoryError from None
        reason = f"The line is not valid JSON ({error.msg} at character {error.pos + 1}: {excerpt(text.strip(), 40)})"
        mend = 'Write one complete JSON object per line, such as {"text": "…", "label": "…"}.'
        return Problem(number, line, None, reason, mend)
    if not isinstance(value, dict):
        reason = f"The line is not a JSON object but {excerpt(text.strip(), 40)}"
        return Problem(number, line, None, reason, 'Write an object, such as {"text": "…", "label": "…"}.')
    if len(value) > MAX_KEYS:
        reason = f"The object has {len(value)} keys; the limit is {MAX_KEYS}"
        return Problem(number, line, None, reason, "Keep the keys that are needed: a text and its label.")
    if (twice := repeated_keys.find(text, value)) is not None:
        reason = f"An object of the line has the key '{excerpt(twice)}' twice"
        return Problem(number, line, None, reason, "Rename or remove one of them.")
    return Row(number, line, value)


JSONL = Format("jsonl", recognise, check_encoding, read_keys, read_rows)
