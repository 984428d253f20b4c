"""CoNLL: a token and its tag on every line, a blank line between sentences.

Columns are separated by tabs or spaces; the first is the token, the last the tag. Lines that begin with `#` or
`-DOCSTART-` say nothing about a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from models.datasets.formats.encoding import OverlongLine, check_encoding, decode_head, numbered_lines
from models.datasets.formats.format import Format, Row
from models.datasets.problems import Problem, excerpt

COLUMNS = ("tokens", "tags")

_TAG = re.compile(r"O|[BIESLUM]-\S+")
_COMMENTS = ("#", "-DOCSTART-")
_JUDGED = 200  # lines
_LEAST, _MOSTLY = 3, 0.95
MAX_TOKENS = 50_000  # of a sentence


def recognise(head: bytes) -> bool:
    """Return whether the first lines all end with a tag, and some of the tags begin a span."""
    found = [line for line in decode_head(head).splitlines()[:_JUDGED] if not _silent(line)]
    split = [line.split() for line in found[:-1] or found]  # the last one may be cut off
    tags = [fields[-1] for fields in split if len(fields) > 1 and _TAG.fullmatch(fields[-1])]
    return len(tags) >= max(_LEAST, _MOSTLY * len(split)) and any(tag != "O" for tag in tags)


def read_columns(path: Path) -> list[str]:  # noqa: ARG001  (a Format's signature)
    """Return the columns: `tokens` and `tags`."""
    return list(COLUMNS)


def read_rows(path: Path, columns: dict[str, str]) -> Iterator[Row | Problem]:
    """Yield a row per sentence; a line without a tag is a problem of its sentence."""
    number, begins = 0, 0
    tokens: list[str] = []
    tags: list[str] = []
    bad: Problem | None = None

    def sentence() -> Row | Problem:
        values = {"tokens": tokens, "tags": tags}
        return bad or Row(number, begins, {name: values[own] for name, own in columns.items()})

    for found in numbered_lines(path):
        if isinstance(found, OverlongLine):
            yield Problem(number + 1, None, None, str(found), "Write one token and its tag per line.")
            return
        line, text = found
        if not text.strip() and tokens:
            yield sentence()
            tokens, tags, bad = [], [], None
        if _silent(text):
            continue
        if not tokens:
            number, begins = number + 1, line
        if len(tokens) >= MAX_TOKENS:
            reason = f"The sentence has more than {MAX_TOKENS} lines; nothing after it was read"
            yield Problem(number, begins, None, reason, "Write a blank line between two sentences.")
            return
        fields = text.split()
        tokens.append(fields[0])
        tags.append(fields[-1] if len(fields) > 1 else "O")
        if len(fields) < 2:
            reason = f"The line has no tag: {excerpt(text.strip(), 40)}"
            bad = Problem(number, line, "tags", reason, "Write the token, a space, and its tag, such as O or B-city.")
    if tokens:
        yield sentence()


def _silent(line: str) -> bool:
    # A token may be "#": a comment has a space or words behind it, and no tag at its end.
    if line.startswith(_COMMENTS):
        return not _TAG.fullmatch((line.split() or [""])[-1]) or line.startswith("-DOCSTART-")
    return not line.strip()


CONLL = Format("conll", recognise, check_encoding, read_columns, read_rows)
