"""Resources that the runners of a process share: the processor's worker threads, and bases that are loaded once."""

from __future__ import annotations

import threading
from collections import deque

from models.backbones import loading
from models.backbones.backbone import Backbone
from models.backbones.precision import count_threads
from models.backbones.registry import BackboneEntry
from models.settings import Settings


class FairSemaphore(threading.Semaphore):
    """A semaphore whose waiters go in the order in which they came.

    With the standard one a thread that lets go and asks again at once, step after step, mostly gets it again.
    """

    def __init__(self, value: int) -> None:
        super().__init__(value)
        self._lock = threading.Lock()
        self._free = value
        self._waiters: deque[threading.Lock] = deque()

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take a place, in turn. A timeout is not supported."""
        if timeout is not None:
            raise ValueError("a fair semaphore has no timeout")
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            if not blocking:
                return False
            mine = threading.Lock()
            mine.acquire()
            self._waiters.append(mine)
        mine.acquire()  # its place is handed over
        return True

    __enter__ = acquire

    def release(self, n: int = 1) -> None:
        """Hand places on to whoever waits longest."""
        with self._lock:
            for _ in range(n):
                if self._waiters:
                    self._waiters.popleft().release()
                else:
                    self._free += 1


class SharedCompute:
    """Shared resources of one process. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.worker_threads = count_threads(settings.threads)
        # As many passes at a time as there are worker threads, over all engines together.
        self.processor = FairSemaphore(self.worker_threads)
        self._backbones: dict[str, Backbone] = {}
        self._loading: dict[str, threading.Lock] = {}  # one load at a time of each base

    def backbone(self, entry: BackboneEntry) -> Backbone:
        """Return the frozen base, loaded by the first runner that asks; blocks.

        Raises BaseModelUnreachable and UnsupportedBaseModel.
        """
        with self._loading.setdefault(entry.name, threading.Lock()):
            found = self._backbones.get(entry.name)
            if found is None:
                settings = self.settings
                found = self._backbones[entry.name] = loading.load(
                    entry, device=settings.device, precision=settings.precision, threads=settings.threads
                )
            return found
