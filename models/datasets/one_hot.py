"""Refusal of tables with one column of 0 and 1 per label, with the command that writes the names into one column."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from models.datasets.errors import UnknownColumns
from models.datasets.formats.delimited import CSV, sniff
from models.datasets.formats.format import Format, Row
from models.datasets.formats.json_lines import JSONL
from models.datasets.problems import excerpt

_PEEKED = 200
_FLAGS = {"0", "1", "0.0", "1.0", "true", "false"}
_MOST_NAMED = 6


def refuse_one_hot(path: Path, filename: str, source: Format, found: Sequence[str]) -> None:
    """Raise UnknownColumns if at least two columns hold nothing but 0 and 1 and another one holds texts."""
    names = [name for name, times in Counter(found).items() if name and times == 1]
    seen: dict[str, set[str]] = {name: set() for name in names}
    for row in islice(source.rows(path, {name: name for name in names}), _PEEKED):
        if isinstance(row, Row):
            for name, value in row.values.items():
                seen[name].add(str(value).lower())
    flags = [name for name in names if seen[name] and seen[name] <= _FLAGS]
    texts = [name for name in names if any(" " in value for value in seen[name])]
    if len(flags) < 2 or not texts:
        return
    shown = ", ".join(f"'{excerpt(name)}'" for name in flags[:_MOST_NAMED]) + (
        ", …" if len(flags) > _MOST_NAMED else ""
    )
    command = _command(path, filename, source, texts[0], flags)
    raise UnknownColumns(
        problem=f"The columns {shown} hold 0 and 1: one per label, where one column of labels is expected.",
        found=", ".join(f"'{excerpt(name, 40)}'" for name in list(found)[:20]),
        advice=f"Write the labels' names into one column `labels`{command}",
        column="labels",
    )


def _command(path: Path, filename: str, source: Format, text: str, flags: list[str]) -> str:
    if source is JSONL:
        query = f"{{text: .[{json.dumps(text)}], labels: [to_entries[] | select(.key | IN({_listed(flags)})) | "
        query += 'select(.value | tostring | IN("1", "1.0", "true")) | .key]}'
        return f": jq -c {shlex.quote(query)} {shlex.quote(filename)} > labels.jsonl"
    if source is not CSV:
        return "; a row to which none applies has []."
    dialect = sniff(path)
    code = (
        f"import csv, json; [print(json.dumps({{'text': row[{text!r}], 'labels': [name for name in {flags!r} if "
        f"row[name] in ('1', '1.0', 'true', 'True')]}})) for row in csv.DictReader(open({filename!r}, "
        f"encoding='utf-8-sig', newline=''), delimiter={dialect.delimiter!r})]"
    )
    return f": python3 -c {shlex.quote(code)} > labels.jsonl"


def _listed(names: list[str]) -> str:
    return ", ".join(json.dumps(name) for name in names)
