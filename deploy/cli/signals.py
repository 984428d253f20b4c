"""Handling of Ctrl-C and `kill` in a command that has children."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def stop_event() -> threading.Event:
    """Return an event that the ending signals set from now on; a second one interrupts at once."""
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    for number in _ENDING:
        signal.signal(number, on_signal)
    return stop


@contextmanager
def interrupting() -> Iterator[None]:
    """Raise KeyboardInterrupt on every ending signal meanwhile, so that `finally` stops what was started."""

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, on_signal) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
