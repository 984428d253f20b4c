"""Counts of the rows of each customer that wait, and their limit."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable

from models.serving.encoders.requests import QueuedInput
from models.serving.errors import QueueFull


class WaitingRows:
    """Counts of the rows that no pass has taken yet, by customer. Thread-safe."""

    def __init__(self, *, limit: int) -> None:
        """Count nothing yet; of one customer at most `limit` rows may wait."""
        self._limit = limit
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def admit(self, customer_id: str, rows: int, *, rows_per_s: float) -> None:
        """Count further rows of a customer. Raises QueueFull, with the time in which so many leave at `rows_per_s`."""
        with self._lock:
            waiting = self._counts[customer_id]
            # A request that is larger than the limit would never fit: it may wait alone.
            if waiting and waiting + rows > self._limit:
                seconds = max(1, round(waiting / rows_per_s))
                raise QueueFull(waiting=waiting, limit=self._limit, rows=rows, seconds=seconds, retry_after_s=seconds)
            self._counts[customer_id] = waiting + rows

    def leave(self, rows: Iterable[QueuedInput]) -> None:
        """Count rows no longer: a pass has taken them, or they were withdrawn."""
        with self._lock:
            for row in rows:
                if not row.counted:
                    continue
                customer_id = row.owner.customer_id
                self._counts[customer_id] -= 1
                if not self._counts[customer_id]:
                    del self._counts[customer_id]

    def of(self, customer_id: str) -> int:
        """Return how many rows of one customer wait."""
        with self._lock:
            return self._counts[customer_id]
