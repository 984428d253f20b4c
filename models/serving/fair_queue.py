"""One queue per customer, drained a batch at a time by deficit round-robin over tokens.

Deficit round-robin (Shreedhar and Varghese, 1996) gives every waiting customer the same share of tokens however many
rows each has waiting, at a constant cost per row. A customer alone gets everything.

A customer with many rows waiting would fill every batch, and a customer that comes with one row waits for the end of
the batch under way. So a customer's rows after its first fill a batch only so far, as long as others come and go.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar


class Costed(Protocol):
    """A row that waits. `cost` is in tokens (or characters, before it is tokenised), at least 1."""

    cost: int


Item = TypeVar("Item", bound=Costed)


@dataclass(slots=True)
class CustomerQueue(Generic[Item]):
    """The rows of one customer that wait, and how much cost it may still take in this round (its deficit)."""

    deficit: int
    rows: deque[Item] = field(default_factory=deque)
    partly_taken: bool = False  # an earlier batch took some of its rows and not all


# After so many batches in which no customer came and went while others' rows waited, those others count as alone.
_ALONE_AFTER = 8


class FairQueue(Generic[Item]):
    """Rows of many customers, taken a batch at a time. Thread-safe; `wait` blocks, nothing else does."""

    def __init__(self, *, quantum: int, first: int = 0) -> None:
        """Create an empty queue. `quantum`: a customer's turn, in cost; `first`: its first turn, if that is more."""
        self._quantum = quantum
        self._head_start = max(0, first - quantum)
        self._queues: OrderedDict[Hashable, CustomerQueue[Item]] = OrderedDict()
        self._changed = threading.Condition(threading.Lock())
        self._closed = False
        self._waiting = 0
        self._cost = 0
        self._batches_alone = _ALONE_AFTER

    def __len__(self) -> int:
        return self._waiting

    def put(self, customer: Hashable, rows: Sequence[Item]) -> None:
        """Append rows behind the same customer's earlier ones."""
        if not rows:
            return
        with self._changed:
            queue = self._queues.get(customer)
            if queue is None:
                queue = self._queues[customer] = CustomerQueue(self._head_start)
            queue.rows.extend(rows)
            self._waiting += len(rows)
            self._cost += sum(row.cost for row in rows)
            self._changed.notify_all()

    def wait(self) -> bool:
        """Block until rows wait. Return False once the queue is closed and empty."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            return self._waiting > 0

    def take(self, budget: int, *, takers: int = 1, least: int = 0, fill: int | None = None) -> list[Item]:
        """Remove and return the rows that leave now: up to `budget` of cost, at least one if any waits.

        Of several `takers` each takes its part of what waits, but no less than `least` of cost. Beyond `fill` of cost
        a batch takes only customers' first rows, unless for a while there was none but customers with more waiting.
        """
        with self._changed:
            budget = min(budget, max(least, -(-self._cost // takers)))
            if fill is None or self._batches_alone >= _ALONE_AFTER:
                fill = budget
            taken, newcomer_emptied = self._drain(budget, min(fill, budget))
            if newcomer_emptied and self._queues:
                self._batches_alone = 0
            elif taken:
                self._batches_alone += 1
            return taken

    def discard(self, customer: Hashable, owner: object) -> list[Item]:
        """Remove and return the customer's waiting rows whose `owner` is this object (its caller is gone)."""
        with self._changed:
            queue = self._queues.get(customer)
            if queue is None:
                return []
            gone = [row for row in queue.rows if getattr(row, "owner", None) is owner]
            if gone:
                queue.rows = deque(row for row in queue.rows if getattr(row, "owner", None) is not owner)
                self._waiting -= len(gone)
                self._cost -= sum(row.cost for row in gone)
                if not queue.rows:
                    del self._queues[customer]
            return gone

    def close(self) -> None:
        """Let `wait` return False once what is left has been taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _drain(self, budget: int, fill: int) -> tuple[list[Item], bool]:
        """Return the rows, and whether they empty the queue of a customer from which no earlier batch took any."""
        taken: list[Item] = []
        spent, newcomer_emptied = 0, False
        served: set[Hashable] = set()
        full: set[Hashable] = set()  # customers whose next row is not their first and goes beyond `fill`
        saving = 0  # consecutive customers whose next row costs more than their deficit
        while len(full) < len(self._queues):
            customer, queue = next(iter(self._queues.items()))
            if customer in full:
                self._queues.move_to_end(customer)
                continue
            if saving == len(self._queues) - len(full):
                if full:  # those would get no rounds, and long rows more than their share
                    break
                self._skip_rounds()
                saving = 0
            # A customer whose share was cut off by the end of the last batch goes on with what it had left.
            if queue.rows[0].cost > queue.deficit:
                queue.deficit += self._quantum
            saving += 1
            while queue.rows and queue.rows[0].cost <= queue.deficit:
                cost = queue.rows[0].cost
                if taken and spent + cost > budget:
                    return self._count_taken(taken, served), newcomer_emptied
                if customer in served and spent + cost > fill:
                    full.add(customer)
                    saving = max(0, saving - 1)
                    break
                taken.append(queue.rows.popleft())
                served.add(customer)
                queue.deficit -= cost
                spent += cost
                saving = 0
            if queue.rows:
                self._queues.move_to_end(customer)
            else:
                newcomer_emptied = newcomer_emptied or not queue.partly_taken
                del self._queues[customer]
            if spent >= budget:
                break
        return self._count_taken(taken, served), newcomer_emptied

    def _skip_rounds(self) -> None:
        """Add to all deficits at once what the rounds would in which no row could leave; in the next one some row can.

        A row is never taken on credit: customers with long rows would leave first with every batch, and queues that
        are empty are deleted with what they owe.
        """
        rounds = min(-(-(queue.rows[0].cost - queue.deficit) // self._quantum) for queue in self._queues.values())
        for queue in self._queues.values():
            queue.deficit += (rounds - 1) * self._quantum

    def _count_taken(self, taken: list[Item], served: set[Hashable]) -> list[Item]:
        for customer in served:
            if (queue := self._queues.get(customer)) is not None:
                queue.partly_taken = True
        self._waiting -= len(taken)
        self._cost -= sum(row.cost for row in taken)
        return taken
