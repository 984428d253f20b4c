"""Control characters in what is logged, written as escapes: a caller's text can neither begin a line of its own nor
steer the terminal that shows it."""

from __future__ import annotations

import io
import re
from typing import TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, WrappedLogger

# What JSON leaves as it is: DEL, the second range of control characters, line separators, marks that turn the reading
# direction, halves of surrogate pairs (which are no UTF-8 and would end the line with an error).
_BEYOND_JSON = "\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_IN_JSON = re.compile(f"[{_BEYOND_JSON}]")
_ON_A_CONSOLE = re.compile(f"[\x00-\x1f{_BEYOND_JSON}]")
_IN_A_TRACEBACK = re.compile(f"[\x00-\x08\x0b-\x1f{_BEYOND_JSON}]")
# Every line of a traceback but its first: a message with a line break in it does not look like a line of the log.
_INDENT = "  "


def for_json(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Escape what a JSON renderer does not escape by itself."""
    return _escaped(event, _IN_JSON)


def for_console(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Escape every control character, line breaks too: one event is one line."""
    return _escaped(event, _ON_A_CONSOLE)


def traceback(out: TextIO, exc_info: ExcInfo) -> None:
    """Write a traceback for a console: indented, its control characters escaped."""
    plain = io.StringIO()
    structlog.dev.plain_traceback(plain, exc_info)
    text = _IN_A_TRACEBACK.sub(_escape, plain.getvalue())
    out.write(text.replace("\n", "\n" + _INDENT))


def _escaped(event: EventDict, pattern: re.Pattern[str]) -> EventDict:
    for name, value in event.items():
        if isinstance(value, str) and pattern.search(value):
            event[name] = pattern.sub(_escape, value)
    return event


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
