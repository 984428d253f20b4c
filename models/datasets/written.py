"""Texts that are no tables: prose, Markdown, pages, source code, settings; named by what their first lines look like.

Any text can be read as CSV, so these are looked for only where the first line names no column that a task reads.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from models.datasets.columns import names_any
from models.datasets.errors import UnknownColumns, WrongFormat
from models.datasets.formats import delimited
from models.datasets.formats.encoding import decode_head

_HEAD_BYTES = 64 * 2**10
_LINES = 200
_LINE_CHARS = 300  # of each line: what the patterns cost stays bounded
_NAME_CHARS, _NAME_WORDS = 40, 3
_ABOVE = 20  # lines above a header

_HEADING = re.compile(r"#{1,6} \S")
_UNDERLINE = re.compile(r"={3,}\s*$")
_FENCE = re.compile(r"```|~~~")
_ROW = re.compile(r"\|.*\|\s*$")
_LINK = re.compile(r"\[[^\]]{1,99}\]\([^)\s]{1,199}\)")
_TAG = re.compile(r"</?[a-zA-Z][\w-]{0,30}[\s>/]|<!--")
_CODE = re.compile(
    r"\s*(?:import \w|from [\w.]+ import |(?:async )?def \w+\(|class \w+\s*[(:{]|#include\s*[<\"]|package \w+;?$|"
    r"func(?:tion)? \w+\(|(?:const|let|var) \w+\s*=|public (?:static|class|void) |using [\w.]+;|(?:pub )?fn \w+|"
    r"use \w+::|SELECT\b.*\bFROM\b|CREATE TABLE\b)"
)
_CODE_END = re.compile(r"[;{}]\s*$|\)\s*:?\s*$")
_SETTING = re.compile(
    r"\s*(?:- )?[\w.\"'-]{1,60}\s?[:=](?:\s|$)|\s*\[[\w.\"-]{1,60}\]{1,2}$|\s*[#;]|[\w.-]{1,60}\s?:?="
)
_ADVICE = (
    "Nothing in it reads as columns. Write one example per row, with a first line that names the columns (text,label), "
    'or as JSONL ({"text": "…", "label": "…"} in each line). Parquet, chats as JSONL and zips of pictures or sounds '
    "are read, too."
)


def refuse_written(path: Path, filename: str, columns: Sequence[str]) -> None:
    """Raise WrongFormat if a text whose first line is `columns`, of which no task is made, is no table at all."""
    with path.open("rb") as file:
        text = decode_head(file.read(_HEAD_BYTES)).lstrip("\ufeff")
    rows = list(_rows(text, path))
    for line, fields in rows[1:_ABOVE]:
        if sum(names_any([name]) for name in fields) > 1 and all(map(_is_name, fields)):
            problem = f"The names of the columns are in line {line}, and not in the first one."
            found = ", ".join(f"'{name.strip()}'" for name in fields)
            raise UnknownColumns(problem=problem, found=found, advice=f"Remove what is above line {line}.", column=None)
    kind = _kind(text)
    if _is_table([fields for _, fields in rows], columns, marked=kind is not None):
        return
    found = f"{kind or 'a text without columns'}, by the look of it"
    raise WrongFormat(filename=filename, found=found, advice=_ADVICE)


def _kind(text: str) -> str | None:
    """Return the kind of document that the lines are of; None for those without a mark of any."""
    every = [line[:_LINE_CHARS] for line in text.splitlines()[:_LINES]]
    lines = [line for line in every if line.strip()]
    if lines and lines[0].startswith("#!"):
        return "a script"
    tags = sum(bool(_TAG.match(line.lstrip())) for line in lines)
    if tags >= 2 and tags * 3 > len(lines):
        return "an HTML or XML document"
    code = sum(bool(_CODE.match(line)) for line in lines)
    if code and sum(bool(_CODE.match(line) or _CODE_END.search(line)) for line in lines) * 4 > len(lines):
        return "source code"
    if _is_markdown(every):
        return "a Markdown document"
    settings = sum(bool(_SETTING.match(line)) for line in lines)
    if settings >= 3 and settings * 2 > len(lines) and any(line.lstrip()[:1] not in "#-" for line in lines):
        return "a configuration file"
    return None


def _is_markdown(lines: Sequence[str]) -> bool:
    """Return whether there is a heading, and more of what Markdown marks. A comment is followed by what it is of."""
    followed = zip(lines, [*lines[1:], ""], strict=True)
    headings = sum(bool(_HEADING.match(line)) and not below.strip() for line, below in followed)
    headings += sum(bool(_UNDERLINE.match(line)) for line in lines)
    others = sum(bool(_FENCE.match(line) or _ROW.match(line) or _LINK.search(line)) for line in lines)
    return headings > 0 and headings + others > 1


def _is_table(rows: Sequence[Sequence[str]], columns: Sequence[str], *, marked: bool) -> bool:
    """Return whether the rows have as many fields as the first line; that it reads as names is enough if not marked."""
    if len(rows) < 2:
        return True  # there is nothing to say but that it names no columns
    if len(columns) < 2:
        return False
    alike = sum(len(fields) == len(columns) for fields in rows[1:])
    return alike * 5 >= (len(rows) - 1) * 4 or (not marked and all(map(_is_name, columns)))


def _is_name(cell: str) -> bool:
    short = len(cell) <= _NAME_CHARS and len(cell.split()) <= _NAME_WORDS
    return short and bool(cell.strip()) and cell.strip()[-1] not in ".!?:;"


def _rows(text: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the first rows, each with its line; quotes that do not fit are read as they come."""
    lines = text.splitlines()
    reader = csv.reader(lines[:-1] if len(lines) > _LINES else lines, delimiter=delimited.sniff(path).delimiter)
    line = 1
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                yield line, fields
            line = reader.line_num + 1
            if line > _LINES:
                return
    except csv.Error:
        return
