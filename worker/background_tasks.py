"""Slow work of an attempt: done in order by one thread, repeated while the database or the object store is away."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, TypeVar

import structlog

from models import disk
from models.errors import Unavailable

log = structlog.get_logger(__name__)

T = TypeVar("T")

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 10.0


@dataclass(frozen=True, slots=True)
class Done:
    """The end of a background task: its result or its error."""

    task: str
    result: Any = None
    error: Exception | None = None


class BackgroundTasks:
    """Fetching data sets, uploading artifacts, the last writes. A daemon thread: a hung upload holds up no exit."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[Callable[[], None]] = SimpleQueue()
        threading.Thread(target=self._work, name="background-tasks", daemon=True).start()

    def submit(self, task: str, function: Callable[[], Any], on_done: Callable[[Done], None] | None = None) -> None:
        """Run `function` after all that was submitted before; `on_done` gets its result or its error."""
        context = contextvars.copy_context()  # the job's ids for the log

        def work() -> None:
            try:
                done = Done(task, result=context.run(function))
            except Exception as error:
                done = Done(task, error=error)
            if on_done is not None:
                on_done(done)

        self._waiting.put(work)

    def _work(self) -> None:
        while True:
            self._waiting.get()()


class Retry:
    """Repeats what failed for lack of a database or a store: waiting is cheaper than doing the work again."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._ended = threading.Event()

    @property
    def ended(self) -> bool:
        """True if the result is no longer wanted."""
        return self._ended.is_set()

    def pause(self, seconds: float) -> bool:
        """Wait; return at once, and False, when the result is no longer wanted."""
        return not self._ended.wait(seconds)

    def end(self) -> None:
        """Wait and repeat no longer: the next failure is final."""
        self._ended.set()

    def call(self, write: Callable[[], T]) -> T:
        """Call until it succeeds. Raises Unavailable at the limit, after `end`, or when the disk is full."""
        deadline = time.monotonic() + self._limit_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return write()
            except Unavailable as error:
                if self.ended or disk.is_full(error) or time.monotonic() + pause_s > deadline:
                    raise
                log.warning("storage_unavailable", reason=str(error), again_in_s=pause_s)
                self._ended.wait(pause_s)
                pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
