"""Whose file is read next: every customer gets the same share of the seconds, small files need not wait for large ones.

Start-time fair queueing (Goyal, Vin and Cheng, 1996): a customer's virtual time grows by the seconds that its files
took, and the customer that is least far goes first. One that comes back after a pause begins where the others are.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class Turn:
    """One file that waits or is read."""

    customer: str
    large: bool


@dataclass(slots=True)
class _Customer:
    time: float
    small: deque[Turn] = field(default_factory=deque)
    large: deque[Turn] = field(default_factory=deque)
    running: int = 0


class Turns:
    """Decides; it waits for nothing and locks nothing.

    Of `slots` files at a time, one place is kept for small files, and one for other customers than the busiest.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._most = max(1, slots - 1)  # large files at a time, and files of one customer
        self._customers: dict[str, _Customer] = {}
        self._running = 0
        self._running_large = 0
        self._now = 0.0  # the virtual time of the turn that was given last

    @property
    def waiting(self) -> int:
        """How many files wait."""
        return sum(len(customer.small) + len(customer.large) for customer in self._customers.values())

    @property
    def running(self) -> int:
        """How many files are read."""
        return self._running

    def add(self, turn: Turn) -> None:
        """Put a file behind its customer's others of its size."""
        customer = self._customers.get(turn.customer)
        if customer is None:
            customer = self._customers[turn.customer] = _Customer(self._now)
        elif not customer.running and not customer.small and not customer.large:
            customer.time = max(customer.time, self._now)
        (customer.large if turn.large else customer.small).append(turn)

    def next(self) -> Turn | None:
        """Return the file that may be read now; it counts as running. None: none may."""
        if self._running >= self._slots:
            return None
        able = [customer for customer in self._customers.values() if self._first(customer) is not None]
        if not able:
            return None
        chosen = min(able, key=lambda customer: (customer.running, customer.time))
        queue = self._first(chosen)
        assert queue is not None  # noqa: S101
        turn = queue.popleft()
        self._now = max(self._now, chosen.time)
        chosen.running += 1
        self._running += 1
        self._running_large += turn.large
        return turn

    def end(self, turn: Turn, seconds: float) -> None:
        """Charge a customer for a file that was being read."""
        customer = self._customers[turn.customer]
        customer.running -= 1
        customer.time += seconds
        self._running -= 1
        self._running_large -= turn.large
        self._forget()

    def withdraw(self, turn: Turn) -> bool:
        """Remove a file that waits; False if it does not."""
        customer = self._customers.get(turn.customer)
        queue = (customer.large if turn.large else customer.small) if customer else deque[Turn]()
        if turn not in queue:
            return False
        queue.remove(turn)
        self._forget()
        return True

    def _first(self, customer: _Customer) -> deque[Turn] | None:
        """Return the queue of which a customer's next file is, if one may be read now."""
        if customer.running >= self._most:
            return None
        if customer.small:
            return customer.small
        return customer.large if customer.large and self._running_large < self._most else None

    def _forget(self) -> None:
        """Drop customers that would begin where the others are; with nobody left, all begin anew."""
        if not self._running and not self.waiting:
            self._customers.clear()
            return
        idle = [
            name
            for name, customer in self._customers.items()
            if not customer.running and not customer.small and not customer.large and customer.time <= self._now
        ]
        for name in idle:
            del self._customers[name]
