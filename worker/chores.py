"""Slow work of an attempt, done in order by one thread while the attempt keeps its lease alive."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any


@dataclass(frozen=True, slots=True)
class Done:
    """How a chore ended."""

    chore: str
    result: Any = None
    error: Exception | None = None


class Chores:
    """Fetching data sets, uploading artifacts, the last writes. A daemon thread: a hung upload holds up no exit."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[Callable[[], None]] = SimpleQueue()
        threading.Thread(target=self._work, name="chores", daemon=True).start()

    def submit(self, chore: str, function: Callable[[], Any], tell: Callable[[Done], None] | None = None) -> None:
        """Run `function` after all that was submitted before, and tell how it ended."""
        context = contextvars.copy_context()  # the job's ids for the log

        def work() -> None:
            try:
                done = Done(chore, result=context.run(function))
            except Exception as error:
                done = Done(chore, error=error)
            if tell is not None:
                tell(done)

        self._waiting.put(work)

    def _work(self) -> None:
        while True:
            self._waiting.get()()
