"""Preparing requests: prompts are laid out and schemas compiled on threads of their own, of customers in turn.

A schema takes up to a second. On the event loop's default threads, which look up keys and aliases and write usage, too,
one customer's schemas would stop everybody's requests, of other models as well.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar
from weakref import WeakValueDictionary

from models.serving.errors import ShuttingDown

THREADS = 2

Prepared = TypeVar("Prepared")


class CheckRoom(Protocol):
    """Raises QueueFull if a customer may not have `answers` more beside those that are unfinished or prepared."""

    def __call__(self, customer_id: str, answers: int, *, preparing: int) -> None:
        """Raise QueueFull, or return."""


class Preparation:
    """Threads that prepare one request of each customer at a time. Belongs to one event loop; `close` at the end."""

    def __init__(self, check_room: CheckRoom) -> None:
        """Create the threads' pool; `check_room` is asked before a request is prepared, not behind the work."""
        self._check_room = check_room
        self._threads = ThreadPoolExecutor(THREADS, "prepare")
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._preparing: Counter[str] = Counter()  # answers by customer
        self._closed = False

    async def run(self, customer_id: str, answers: int, work: Callable[[], Prepared]) -> Prepared:
        """Return what `work` returns for a request for so many answers. Raises QueueFull, ShuttingDown, and its own."""
        self._check_room(customer_id, answers, preparing=self._preparing[customer_id])
        self._preparing[customer_id] += answers
        try:
            return await self._run_in_turn(customer_id, work)
        finally:
            self._preparing[customer_id] -= answers
            if not self._preparing[customer_id]:
                del self._preparing[customer_id]

    def close(self) -> None:
        """Begin nothing more; what is being prepared is finished."""
        self._closed = True
        self._threads.shutdown(wait=False)

    async def _run_in_turn(self, customer_id: str, work: Callable[[], Prepared]) -> Prepared:
        # One of each customer stands in the threads' queue: so customers take turns, however many requests one sends.
        turn = self._turns.setdefault(customer_id, asyncio.Lock())
        await turn.acquire()
        loop = asyncio.get_running_loop()
        try:
            if self._closed:
                raise ShuttingDown()
            prepared = self._threads.submit(work)
        except BaseException:
            turn.release()
            raise
        # Not when the caller leaves: a thread cannot be stopped, and who asks and leaves would have all of them.
        prepared.add_done_callback(lambda _: _release(turn, loop))
        return await asyncio.wrap_future(prepared)


def _release(turn: asyncio.Lock, loop: asyncio.AbstractEventLoop) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(turn.release)
