"""Places at the upstream server, by customers: who was served least comes first.

The virtual token counter of Sheng et al., "Fairness in Serving Large Language Models" (2024), as in Graft's own
scheduler: tokens that are read and written count alike, and a customer that comes back begins at the least of those
that are there. Unlike there, a place that was given is not taken back: what the upstream server writes it ends.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field

from models.serving.errors import QueueFull

# What a refused customer is told to wait, for each answer that it has unfinished beyond the places there are.
_SECONDS_PER_ROUND = 2


@dataclass(slots=True, eq=False)
class _Waiter:
    places: int
    granted: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Turns:
    """Places for answers. Belongs to one event loop."""

    def __init__(self, *, places: int, queue_per_customer: int) -> None:
        """Create `places` free places; a customer may have `queue_per_customer` answers unfinished."""
        self._places = places
        self._limit = queue_per_customer
        self._waiting: dict[str, deque[_Waiter]] = {}
        self._held: Counter[str] = Counter()
        self._served: dict[str, int] = {}

    @property
    def held(self) -> int:
        """Number of places that are taken."""
        return self._held.total()

    @property
    def waiting(self) -> int:
        """Number of answers that wait for a place."""
        return sum(self._waiting_of(customer) for customer in self._waiting)

    def check_room(self, customer_id: str, answers: int, *, preparing: int = 0) -> None:
        """Raise QueueFull if a customer may not have so many answers beside those that are being prepared."""
        unfinished = self._held[customer_id] + self._waiting_of(customer_id) + preparing
        if unfinished and unfinished + answers > self._limit:
            seconds = _SECONDS_PER_ROUND * max(1, round(unfinished / self._places))
            raise QueueFull(
                waiting=unfinished, limit=self._limit, rows=answers, seconds=seconds, retry_after_s=float(seconds)
            )

    async def take(self, customer: str, places: int) -> None:
        """Wait for places, for all choices of a request at once. Raises QueueFull."""
        self.check_room(customer, places)
        if customer not in self._served:
            self._served[customer] = min(self._served.values(), default=0)
        waiter = _Waiter(places)
        self._waiting.setdefault(customer, deque()).append(waiter)
        self._admit()
        try:
            await waiter.granted
        except asyncio.CancelledError:
            if waiter.granted.done() and not waiter.granted.cancelled():
                self.give_back(customer, places)
            else:
                self._remove(customer, waiter)
            raise

    def charge(self, customer: str, tokens: int) -> None:
        """Count tokens that were read or written for a customer that has a place."""
        self._served[customer] += tokens

    def give_back(self, customer: str, places: int) -> None:
        """Let others have the places."""
        self._held[customer] -= places
        if self._held[customer] <= 0:
            del self._held[customer]
        self._forget(customer)
        self._admit()

    def _admit(self) -> None:
        while self._waiting:
            customer = min(self._waiting, key=lambda waiting: (self._served[waiting], self._held[waiting]))
            queue = self._waiting[customer]
            while queue and queue[0].granted.done():  # its task was cancelled; `_remove` runs a step of the loop later
                queue.popleft()
            if not queue:
                del self._waiting[customer]
                continue
            # More choices than places go alone. Nobody overtakes who is next: small requests would starve large ones.
            if self.held and self.held + queue[0].places > self._places:
                return
            waiter = queue.popleft()
            if not queue:
                del self._waiting[customer]
            self._held[customer] += waiter.places
            waiter.granted.set_result(None)

    def _remove(self, customer: str, waiter: _Waiter) -> None:
        queue = self._waiting.get(customer, deque())
        if waiter in queue:  # else: `_admit` has dropped it
            queue.remove(waiter)
            if not queue:
                del self._waiting[customer]
        self._forget(customer)
        self._admit()

    def _forget(self, customer: str) -> None:
        if customer not in self._held and customer not in self._waiting:
            self._served.pop(customer, None)

    def _waiting_of(self, customer: str) -> int:
        return sum(waiter.places for waiter in self._waiting.get(customer, ()))
