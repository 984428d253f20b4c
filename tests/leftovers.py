"""Processes that a killed test run leaves behind are killed after it: nobody else knows of them.

Each run marks its environment, which everything below it inherits, whatever session or parent it has by then. A small
process holds a pipe to the run; when the pipe closes without a word, it kills whatever carries the mark.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from uuid import uuid4

_MARK = "PYTEST_RUN_MARK"
_DONE = b"done"


@dataclass(frozen=True, slots=True)
class Watch:
    """The process that outlives a run which is killed."""

    process: subprocess.Popen[bytes]

    def end(self) -> None:
        """Let it go: the run has ended by itself, and its fixtures have cleaned up."""
        self.process.communicate(_DONE)


def watch() -> Watch:
    """Mark this run and start to watch over it."""
    os.environ.pop(_MARK, None)  # the watcher itself carries none
    mark = uuid4().hex
    process = subprocess.Popen([sys.executable, __file__, mark], stdin=subprocess.PIPE, start_new_session=True)
    os.environ[_MARK] = mark
    return Watch(process)


def kill(mark: str) -> None:
    """Kill what carries the mark, until a round finds nothing: a supervisor may start another child meanwhile."""
    import psutil

    found = True
    while found:
        found = False
        for process in psutil.process_iter():
            try:
                if process.environ().get(_MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                    process.kill()
                    found = True
            except psutil.Error:
                continue


if __name__ == "__main__" and sys.stdin.buffer.read() != _DONE:
    kill(sys.argv[1])
