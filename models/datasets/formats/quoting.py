"""The distinction of quotes that quote from quotes that are characters of a text, in delimited files."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from models.datasets.formats.encoding import MAX_LINE_CHARS, OverlongLine

_WHOLE = re.compile(r'"[^"]*(?:""[^"]*)*"')
_REMEMBERED_LINES = 100
_REMEMBERED_CELLS = 200  # in each column
_CELL_CHARS = 64


def is_quoted(found: Iterable[str]) -> bool:
    """Return whether a tab-separated file is quoted as by a CSV writer. Most are not: a text may start with a quote.

    Not quoted: a quote that opens on a line and does not close there, where the lines are rows as they are; or quotes
    that no writer would have set, around some of a column's cells without a quote or tab in them. Quoted in any case:
    names of columns that are all in quotes, which nobody sets by hand.
    """
    width = ragged = stray = total = 0
    quoted: dict[int, int] = defaultdict(int)
    needless: set[int] = set()
    for line in found:
        fields = line.rstrip("\r\n").split("\t")
        if not any(fields):
            continue
        if not width:
            if all_quoted(line, "\t"):
                return True
            width = len(fields)
            continue
        total += 1
        ragged += len(fields) != width
        for place, field in enumerate(fields[:width]):
            if field.startswith('"') and len(field) > 1 and _WHOLE.fullmatch(field):
                quoted[place] += 1
                if '""' not in field[1:-1]:
                    needless.add(place)
            elif field.startswith('"'):
                stray += 1
    if ragged:  # a quoted field holds a tab or a line break, or rows are broken
        return True
    return not stray and all(quoted[place] == total for place in needless)


def all_quoted(line: str, delimiter: str) -> bool:
    """Return whether every cell of a line without line breaks or delimiters in cells is in quotes."""
    return all(_WHOLE.fullmatch(cell) for cell in line.rstrip("\r\n").split(delimiter))


class RecentLines:
    """Passes lines on and keeps those since the last `forget`, a hundred at most.

    Raises OverlongLine where they grow beyond `most` characters: quotes can make one row of a whole file.
    """

    def __init__(self, found: Iterator[str], most: int = MAX_LINE_CHARS) -> None:
        self._found = found
        self._most = most
        self._chars = 0
        self.lines: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._found)
        self._chars += len(line)
        if self._chars > self._most:
            raise OverlongLine
        if len(self.lines) < _REMEMBERED_LINES:
            self.lines.append(line)
        return line

    def forget(self) -> None:
        """Begin anew."""
        self.lines = []
        self._chars = 0


class SeenCells:
    """Short cells of earlier rows by column: examples of labels in this file."""

    def __init__(self) -> None:
        self.every_cell_quoted = False  # by the file's writer: a line that does not begin with a quote is no row
        self._cells: dict[int, set[str]] = defaultdict(set)

    def add(self, fields: Sequence[str]) -> None:
        """Remember one row."""
        for place, cell in enumerate(fields):
            known = self._cells[place]
            if len(cell) <= _CELL_CHARS and len(known) < _REMEMBERED_CELLS:
                known.add(cell.strip())

    def swallowed(self, fields: Sequence[str], found: Sequence[str], delimiter: str) -> bool:
        """Return whether one row's lines are rows each: as wide as the table, one with a cell that occurred before.

        So it is when a text begins with a stray quote and a later one ends with one. Cells before the field that holds
        line breaks, on the first line, and behind it, on the last, are the row's own and prove nothing.
        """
        if len(found) < 2 or len(fields) < 2:
            return False
        if self.every_cell_quoted and not all(line.startswith('"') for line in found):
            return False
        split = [line.rstrip("\r\n").split(delimiter) for line in found]
        if any(len(cells) != len(fields) for cells in split):
            return False
        long = [place for place, field in enumerate(fields) if "\n" in field or "\r" in field]
        first, last = (long[0], long[-1]) if long else (0, 0)
        foreign = [
            (place, cell.strip())
            for line, cells in enumerate(split)
            for place, cell in enumerate(cells)
            if place not in long and (line > 0 or place > first) and (line < len(split) - 1 or place < last)
        ]
        return any(cell in self._cells[place] for place, cell in foreign)
