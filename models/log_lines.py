"""Log lines of one process, written together: one system call for all that an event loop logs in a moment.

A system call lets go of the interpreter's lock, and beside busy compute threads the event loop then waits until it gets
the lock back. Writing a line per request to a pipe was a fifth of its profile.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
from typing import BinaryIO

# The part of its access log that a killed process may lose, and the delay for a reader.
_DELAY_S = 0.05


class LogLines:
    """A file for `structlog.BytesLogger`: on an event loop lines wait a moment for each other, elsewhere not."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lines: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        atexit.register(self.drain)

    def write(self, line: bytes) -> int:
        """Keep a line, and schedule its writing."""
        self._lines.append(line)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.drain()
            return len(line)
        if self._timer is None or self._loop is not loop:  # the timer of a loop that has ended is gone
            self._loop, self._timer = loop, loop.call_later(_DELAY_S, self.drain)
        return len(line)

    def flush(self) -> None:
        """Do nothing: the logger calls it after every line."""

    def drain(self) -> None:
        """Write the lines that wait."""
        self._timer = None
        lines, self._lines = self._lines, []
        if lines:
            with contextlib.suppress(OSError):  # a full disk loses lines of the log, not the request
                self._file.write(b"".join(lines))
                self._file.flush()
