"""Output on the terminal: answers to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.highlighter import JSONHighlighter
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from deploy.cli.errors import ApiRefused
from deploy.cli.wording import collapse, in_commands
from models.errors import GraftError

_WIDE = 240

# Control characters, which a terminal obeys; newline and tab are layout.
_SURROGATES = range(0xD800, 0xE000)  # bytes of a file's name that are no UTF-8: they cannot be written
_VISIBLE = dict.fromkeys((*range(9), *range(11, 32), *range(0x7F, 0xA0), *_SURROGATES), "\ufffd")
_ESCAPED = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), *_SURROGATES)}  # JSON leaves these as they are


class _Terminal(Console):
    """A console for texts, labels and names of customers: nothing in them is markup, and nothing steers the terminal.

    Styles come from `Text`; what is escaped here is the text of segments, before their styles become escape sequences.
    """

    def __init__(self, *, stderr: bool, width: int | None) -> None:
        super().__init__(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=segment.text.translate(_VISIBLE))


def _width(stream: TextIO | None) -> int | None:
    # In a pipe there is no width to fit into: a row stays a line. A stream that is closed is None.
    return None if stream is not None and stream.isatty() else _WIDE


out = _Terminal(stderr=False, width=_width(sys.stdout))
err = _Terminal(stderr=True, width=_width(sys.stderr))

_STATUS_STYLES = {
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
    "paused": "yellow",
    "running": "cyan",
}


def show_error(error: GraftError) -> None:
    """Print an error with the details that say how to mend the data."""
    err.print(Text.assemble(("Error: ", "bold red"), in_commands(str(error))), soft_wrap=True)
    rows = collapse(detail for detail in error.details if isinstance(detail, dict))
    # What the message says of all of them is not said again in every line.
    said = {row.get("mend") for row in rows}
    alike = len(said) == 1 and str(*said) in str(error)
    if len(rows) == 1 and alike and rows[0].get("row") is None and str(rows[0].get("reason")) in str(error):
        rows = []
    if rows:
        # Of a member of an archive: its name, and the line in it.
        place = ("member", "line") if any("member" in row for row in rows) else ()
        columns = ("row", *place, "column", "reason", *(() if alike else ("mend",)))
        names = [name for name in columns if any(name in row for row in rows)]
        if not names:
            names = list(rows[0])
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in names:
            table.add_column(name, overflow="fold")
        for row in rows:
            cells = ("" if row.get(name) is None else str(row[name]) for name in names)
            table.add_row(*(_cell(in_commands(cell)) for cell in cells))
        err.print(table)
    if isinstance(error, ApiRefused):
        mend = error.error.get("mend")
        if mend:
            err.print(Text(f"Mend: {in_commands(mend)}"))
        parts = [error.code, f"HTTP {error.http_status}", *([error.request_id] if error.request_id else [])]
        err.print(Text(" · ".join(parts), style="dim"))


def show_json(data: Any) -> None:
    """Print an object as JSON, a field a line."""
    out.print(JSONHighlighter()(as_json(data, indent=2)), soft_wrap=True)


def as_json(data: Any, *, indent: int | None = None) -> str:
    """Return an object as JSON: letters as they are, control characters as escapes, all of them."""
    return json.dumps(data, ensure_ascii=False, indent=indent).translate(_ESCAPED)


def show_table(columns: list[str], rows: list[list[Any]], *, empty: str) -> None:
    """Print a plain table, or what to do when there is nothing."""
    if not rows:
        err.print(Text(empty, style="dim"))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "id")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else _cell("" if cell is None else str(cell)) for cell in row))
    out.print(table)


def show_lines(lines: list[tuple[str, Any]]) -> None:
    """Print names and values below one another; what has no value is left out."""
    kept = [(name, value) for name, value in lines if value not in (None, "")]
    width = max((len(name) for name, _ in kept), default=0)
    for name, value in kept:
        out.print(Text.assemble((f"{name:<{width}}  ", "dim"), value if isinstance(value, Text) else str(value)))


def show_warnings(warnings: list[dict[str, Any]], console: Console) -> None:
    """Print warnings, a line each."""
    for warning in warnings:
        console.print(Text(f"Warning: {in_commands(str(warning.get('message')))}", style="yellow"), soft_wrap=True)


def status(word: str) -> Text:
    """Return a job's state in its colour."""
    return Text(word, style=_STATUS_STYLES.get(word, ""))


def when(seconds: float | None) -> str:
    """Return Unix seconds as local time."""
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def duration(seconds: float | None) -> str:
    """Return seconds in words."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s" if isinstance(seconds, float) and seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _cell(text: str) -> Text:
    # Before a column is measured: control characters have no width, and what stands for them has.
    return Text(text.translate(_VISIBLE))
