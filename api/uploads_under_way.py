"""The uploads that are under way: how many each customer may have at a time, and the threads that wait for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Request

from models.services.validation.cancellation import Cancellation
from models.services.validation.errors import TooManyUploads, UploadsBusy

Answer = TypeVar("Answer")

# Of all customers. Each has a thread that waits for its turn, and a file on disk.
_MOST = 256
_RETRY_AFTER_S = 5.0


class UploadsUnderWay:
    """Counts uploads from their first byte to their answer. Used on the event loop."""

    def __init__(self, per_customer: int) -> None:
        self._per_customer = per_customer
        self._counts: Counter[str] = Counter()
        self._threads = CapacityLimiter(_MOST)

    @contextlib.asynccontextmanager
    async def one_more(self, customer_id: str) -> AsyncIterator[None]:
        """Count an upload as long as the context lasts; raises TooManyUploads and UploadsBusy before a byte is read."""
        count, total = self._counts[customer_id], self._counts.total()
        if count >= self._per_customer:
            raise TooManyUploads(count=count, limit=self._per_customer, retry_after_s=_RETRY_AFTER_S)
        if total >= _MOST:
            raise UploadsBusy(count=total, retry_after_s=_RETRY_AFTER_S)
        self._counts[customer_id] += 1
        try:
            yield
        finally:
            self._counts[customer_id] -= 1
            if not self._counts[customer_id]:
                del self._counts[customer_id]

    async def work(self, request: Request, work: Callable[[Cancellation], Answer]) -> Answer:
        """Run work on an upload on a thread; it is told when the client has gone. The body must have been read."""
        cancellation = Cancellation()
        watcher = asyncio.create_task(_watch(request, cancellation), name="disconnection")
        try:
            return await to_thread.run_sync(work, cancellation, limiter=self._threads)
        finally:
            watcher.cancel()


async def _watch(request: Request, cancellation: Cancellation) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    cancellation.cancel()
