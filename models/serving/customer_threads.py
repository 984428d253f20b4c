"""Threads for work that takes long, of customers in turn.

On the event loop's default threads, which write usage and clear up, too, one customer's work would stop everybody's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from weakref import WeakValueDictionary

from models.serving.errors import ShuttingDown

THREADS = 2

Result = TypeVar("Result")


class CustomerThreads:
    """Threads that do one piece of work of each customer at a time. Belongs to one event loop; `close` at the end."""

    def __init__(self, name: str) -> None:
        """Create the threads' pool; `name` begins the threads' names."""
        self._threads = ThreadPoolExecutor(THREADS, name)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._closed = False

    async def run(self, customer_id: str, work: Callable[[], Result]) -> Result:
        """Return what `work` returns on a thread. Raises ShuttingDown, and its own."""
        # One of each customer stands in the threads' queue: so customers take turns, however many requests one sends.
        turn = self._turns.setdefault(customer_id, asyncio.Lock())
        await turn.acquire()
        loop = asyncio.get_running_loop()
        try:
            if self._closed:
                raise ShuttingDown()
            done = self._threads.submit(work)
        except BaseException:
            turn.release()
            raise
        # Not when the caller leaves: a thread cannot be stopped, and who asks and leaves would have all of them.
        done.add_done_callback(lambda _: _release(turn, loop))
        return await asyncio.wrap_future(done)

    def close(self) -> None:
        """Begin nothing more; what is being done is finished."""
        self._closed = True
        self._threads.shutdown(wait=False)


def _release(turn: asyncio.Lock, loop: asyncio.AbstractEventLoop) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(turn.release)
