"""Problems of single rows: one entry each, the first hundred kept, all of them counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

SHOWN = 100  # how many an answer carries; the total is always given


OWN = "\ue000"  # in a mend: stands for the file's own name of the column


class BadValue(ValueError):
    """A value that cannot be used: why (`reason`), and what to do about it (`mend`)."""

    def __init__(self, reason: str, mend: str) -> None:
        super().__init__(reason, mend)
        self.reason = reason
        self.mend = mend


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a file, where it is, and what to do about it.

    `row` is 1-based over the data rows (header and blank lines not counted); `line` is the physical line in a text
    file at which the row starts; `member` is the name that a picture or a sound has in an archive.
    """

    row: int | None
    line: int | None
    column: str | None
    reason: str
    mend: str
    member: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the entry of `details` on the wire; `member` only where there is one."""
        entry = asdict(self)
        if self.member is None:
            del entry["member"]
        return entry

    def __str__(self) -> str:
        place = ["" if self.row is None else f"row {self.row}", "" if self.line is None else f"line {self.line}"]
        where = ", ".join(part for part in place if part)
        member = f"'{excerpt(self.member, 120)}'" if self.member else ""
        column = f"column '{excerpt(self.column)}'" if self.column and not member else ""
        return ": ".join(part for part in (where, member, column, self.reason) if part)


class ProblemCollector:
    """Collects problems in bounded memory."""

    def __init__(self) -> None:
        self.shown: list[Problem] = []
        self.total = 0
        self.bad_rows = 0
        self.like_first = 0  # further problems that differ from the first in their row alone
        self._last_row: int | None = None

    def add(self, problems: Iterable[Problem]) -> None:
        """Count the problems of one row and keep the first ones."""
        for problem in problems:
            self.total += 1
            if self.shown and replace(problem, row=None, line=None) == replace(self.shown[0], row=None, line=None):
                self.like_first += 1
            if problem.row is None or problem.row != self._last_row:
                self.bad_rows += 1
                self._last_row = problem.row
            if len(self.shown) < SHOWN:
                self.shown.append(problem)


def name_column(problem: Problem, columns: Mapping[str, str]) -> Problem:
    """Return the problem with the file's own column in its advice; `columns` maps canonical names to those."""
    if OWN not in problem.mend:
        return problem
    own = columns.get(problem.column or "", problem.column or "")
    return replace(problem, mend=problem.mend.replace(OWN, own))


def excerpt(value: object, length: int = 60) -> str:
    """Return at most `length` printable characters of a value, for a message."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except RecursionError:  # JSON may be nested a thousand deep
        text = f"a deeply nested {type(value).__name__}"
    short = text if len(text) <= length else text[: length - 1] + "…"
    return "".join(char if char.isprintable() else "�" for char in short)
