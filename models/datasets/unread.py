"""Warnings of what a file holds that is not read, and of what was read in one of several possible ways."""

from __future__ import annotations

from typing import Any, TypeVar

from models.datasets.columns import Arrangement
from models.datasets.examples import Example
from models.datasets.formats.format import Row
from models.datasets.problems import Problem, excerpt
from models.datasets.tasks.task import Remark

Kind = TypeVar("Kind", str, Remark)

_SHOWN = 5
_MOST_KINDS = 20


class Unread:
    """Counts what is not read, by kind, with the numbers of the first rows."""

    def __init__(self, chosen: Arrangement) -> None:
        self._chosen = chosen
        self._unused: dict[str, list[int]] = {}
        self._remarks: dict[Remark, list[int]] = {}
        self._counts: dict[str | Remark, int] = {}

    def add(self, row: Row | Problem, example: Example) -> None:
        """Note what is not read of one row, and how it was read."""
        if isinstance(row, Problem):
            return
        for what in row.unused:
            self._note(self._unused, what, row.number)
        if self._chosen.task.remarks is not None:
            for remark in self._chosen.task.remarks(row, example):
                self._note(self._remarks, remark, row.number)

    def warnings(self) -> list[dict[str, Any]]:
        """Return warnings of columns and parts of rows that are not read, and the task's remarks."""
        task = self._chosen.task.name
        found: list[dict[str, Any]] = []
        for own in self._chosen.unused:
            message = f"Column '{excerpt(own)}' is not used: {task} reads {_listed(self._chosen.columns.values())}."
            if own.strip().casefold() not in ("text_pair", "weight"):
                message += f' If it is meant, name it: columns={{…: "{excerpt(own)}"}}, or state the task.'
            found.append({"code": "unused_column", "message": message, "column": own})
        for what, rows in self._unused.items():
            count = self._counts[what]
            message = (
                f"{what[0].upper()}{what[1:]} are not read, in {count} row{'s' if count > 1 else ''}, first in "
                f"{', '.join(map(str, rows))}: the text is the user's message before the answer, and nothing else."
            )
            if what.startswith("key "):
                message = message.replace(" are not read", " is not read")
            found.append({"code": "unused_content", "message": message, "what": what, "count": count, "rows": rows})
        usual = max((remark for remark in self._remarks if remark.usual), key=self._counts.__getitem__, default=None)
        for remark, rows in self._remarks.items():
            if remark == usual:
                continue
            count = self._counts[remark]
            message = f"{remark.what} in {count} row{'' if count == 1 else 's'}, first in {', '.join(map(str, rows))}."
            if remark.advice:
                message += f" {remark.advice}"
            found.append({"code": "reading", "message": message, "count": count, "rows": rows})
        return found

    def _note(self, where: dict[Kind, list[int]], what: Kind, row: int) -> None:
        if what not in where and len(where) >= _MOST_KINDS:
            return
        self._counts[what] = self._counts.get(what, 0) + 1
        rows = where.setdefault(what, [])
        if len(rows) < _SHOWN:
            rows.append(row)


def _listed(names: Any) -> str:
    return " and ".join(f"'{excerpt(name)}'" for name in names)
