"""Preparing requests: prompts are laid out and schemas compiled on threads of their own, of customers in turn.

A schema takes up to a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol, TypeVar

from models.serving.customer_threads import CustomerThreads

Prepared = TypeVar("Prepared")


class CheckRoom(Protocol):
    """Raises QueueFull if a customer may not have `answers` more beside those that are unfinished or prepared."""

    def __call__(self, customer_id: str, answers: int, *, preparing: int) -> None:
        """Raise QueueFull, or return."""


class Preparation:
    """Prepares one request of each customer at a time. Belongs to one event loop; `close` at the end."""

    def __init__(self, check_room: CheckRoom) -> None:
        """Create its threads; `check_room` is asked before a request is prepared, not behind the work."""
        self._check_room = check_room
        self._threads = CustomerThreads("prepare")
        self._preparing: Counter[str] = Counter()  # answers by customer

    async def run(self, customer_id: str, answers: int, work: Callable[[], Prepared]) -> Prepared:
        """Return what `work` returns for a request for so many answers. Raises QueueFull, ShuttingDown, and its own."""
        self._check_room(customer_id, answers, preparing=self._preparing[customer_id])
        self._preparing[customer_id] += answers
        try:
            return await self._threads.run(customer_id, work)
        finally:
            self._preparing[customer_id] -= answers
            if not self._preparing[customer_id]:
                del self._preparing[customer_id]

    def close(self) -> None:
        """Begin nothing more; what is being prepared is finished."""
        self._threads.close()
