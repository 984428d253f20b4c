"""The news that nobody waits for an answer any more."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


class Cancellation:
    """Cancelled once, from any thread; what is to happen then is registered for a while."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._on_cancel: Callable[[], object] | None = None

    @property
    def cancelled(self) -> bool:
        """Whether it has happened."""
        return self._cancelled

    def cancel(self) -> None:
        """Tell whoever works on the answer."""
        with self._lock:
            if not self._cancelled:
                self._cancelled = True
                if self._on_cancel is not None:
                    self._on_cancel()

    @contextlib.contextmanager
    def watched(self, on_cancel: Callable[[], object]) -> Iterator[None]:
        """Call `on_cancel` when it happens within this context, at once if it has happened; it must not block."""
        with self._lock:
            self._on_cancel = on_cancel
            if self._cancelled:
                on_cancel()
        try:
            yield
        finally:
            with self._lock:
                self._on_cancel = None
