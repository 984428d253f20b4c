"""Outlasting a database or an object store that is away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from models.errors import Unavailable
from worker.failures import is_disk_full

log = structlog.get_logger(__name__)

T = TypeVar("T")

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 10.0


class Patience:
    """Repeats what failed for lack of a database or a store: waiting is cheaper than doing the work again."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._ended = threading.Event()

    @property
    def ended(self) -> bool:
        """Whether nobody wants the result any more."""
        return self._ended.is_set()

    def end(self) -> None:
        """Let whoever waits or repeats give up."""
        self._ended.set()

    def persist(self, write: Callable[[], T]) -> T:
        """Call until it goes through. Raises Unavailable at the limit, when the end came, or when the disk is full."""
        deadline = time.monotonic() + self._limit_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return write()
            except Unavailable as error:
                if self.ended or is_disk_full(error) or time.monotonic() + pause_s > deadline:
                    raise
                log.warning("storage_unavailable", reason=str(error), again_in_s=pause_s)
                self._ended.wait(pause_s)
                pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
