"""Whose rows leave next: one queue per customer, drained by deficit round-robin over tokens.

Deficit round-robin (Shreedhar and Varghese, 1996) gives every waiting customer the same share of tokens however many
rows each has waiting, at a constant cost per row. A customer alone gets everything.

A customer with many rows waiting would fill every batch, and whoever comes with one row waits for the end of the batch
under way. So a customer's rows after its first fill a batch only so far, as long as others come and go.
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


Row = TypeVar("Row", bound=Costed)


@dataclass(slots=True)
class _CustomerQueue(Generic[Row]):
    deficit: int
    rows: deque[Row] = field(default_factory=deque)
    staying: bool = False  # a batch has left without all of it


# After so many batches in which nobody came and went while others' rows waited, those others are thought to be alone.
_ALONE_AFTER = 8


class FairQueue(Generic[Row]):
    """Rows of many customers, taken a batch at a time. Thread-safe; `wait` blocks, nothing else does."""

    def __init__(self, *, quantum: int, first: int = 0) -> None:
        """`quantum` is a customer's turn, in cost; `first` the turn of one who had nothing waiting, if it is more."""
        self._quantum = quantum
        self._head_start = max(0, first - quantum)
        self._lanes: OrderedDict[Hashable, _CustomerQueue[Row]] = OrderedDict()
        self._changed = threading.Condition(threading.Lock())
        self._closed = False
        self._waiting = 0
        self._cost = 0
        self._batches_alone = _ALONE_AFTER

    def __len__(self) -> int:
        return self._waiting

    def put(self, customer: Hashable, rows: Sequence[Row]) -> None:
        """Let rows wait, behind the same customer's earlier ones."""
        if not rows:
            return
        with self._changed:
            lane = self._lanes.get(customer)
            if lane is None:
                lane = self._lanes[customer] = _CustomerQueue(self._head_start)
            lane.rows.extend(rows)
            self._waiting += len(rows)
            self._cost += sum(row.cost for row in rows)
            self._changed.notify_all()

    def wait(self) -> bool:
        """Block until rows wait; False once the queue is closed and empty."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            return self._waiting > 0

    def take(self, budget: int, *, takers: int = 1, least: int = 0, fill: int | None = None) -> list[Row]:
        """The rows that leave now: up to `budget` of cost, at least one if any waits.

        Of several `takers` each takes its part of what waits, but no less than `least` of cost. Beyond `fill` of cost
        there are only customers' first rows in it, unless nobody but who has more waiting has been there for a while.
        """
        with self._changed:
            budget = min(budget, max(least, -(-self._cost // takers)))
            if fill is None or self._batches_alone >= _ALONE_AFTER:
                fill = budget
            taken, went = self._drain(budget, min(fill, budget))
            if went and self._lanes:
                self._batches_alone = 0
            elif taken:
                self._batches_alone += 1
            return taken

    def discard(self, customer: Hashable, owner: object) -> list[Row]:
        """Remove the customer's waiting rows whose `owner` is this object (the caller is gone); what was removed."""
        with self._changed:
            lane = self._lanes.get(customer)
            if lane is None:
                return []
            gone = [row for row in lane.rows if getattr(row, "owner", None) is owner]
            if gone:
                lane.rows = deque(row for row in lane.rows if getattr(row, "owner", None) is not owner)
                self._waiting -= len(gone)
                self._cost -= sum(row.cost for row in gone)
                if not lane.rows:
                    del self._lanes[customer]
            return gone

    def close(self) -> None:
        """Nothing more comes; what is left may be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _drain(self, budget: int, fill: int) -> tuple[list[Row], bool]:
        """The rows, and whether they are all that somebody had who came since the last batch."""
        taken: list[Row] = []
        spent, went = 0, False
        served: set[Hashable] = set()
        full: set[Hashable] = set()  # whose next row is not their first and goes beyond what such rows may fill
        saving = 0  # customers in a row whose first row costs more than they have
        while len(full) < len(self._lanes):
            customer, lane = next(iter(self._lanes.items()))
            if customer in full:
                self._lanes.move_to_end(customer)
                continue
            if saving == len(self._lanes) - len(full):
                if full:  # they would get no laps, and long rows more than their share
                    break
                self._skip_laps()
                saving = 0
            # A customer whose share was cut off by the end of the last batch goes on with what it had left.
            if lane.rows[0].cost > lane.deficit:
                lane.deficit += self._quantum
            saving += 1
            while lane.rows and lane.rows[0].cost <= lane.deficit:
                cost = lane.rows[0].cost
                if taken and spent + cost > budget:
                    return self._left(taken, served), went
                if customer in served and spent + cost > fill:
                    full.add(customer)
                    saving = max(0, saving - 1)
                    break
                taken.append(lane.rows.popleft())
                served.add(customer)
                lane.deficit -= cost
                spent += cost
                saving = 0
            if lane.rows:
                self._lanes.move_to_end(customer)
            else:
                went = went or not lane.staying
                del self._lanes[customer]
            if spent >= budget:
                break
        return self._left(taken, served), went

    def _skip_laps(self) -> None:
        """Give everybody at once what the laps would bring in which nobody could leave; in the next one somebody can.

        A row is never taken on credit: whoever has long rows would leave first with every batch, and lanes that are
        done are forgotten with what they owe.
        """
        laps = min(-(-(lane.rows[0].cost - lane.deficit) // self._quantum) for lane in self._lanes.values())
        for lane in self._lanes.values():
            lane.deficit += (laps - 1) * self._quantum

    def _left(self, taken: list[Row], served: set[Hashable]) -> list[Row]:
        for customer in served:
            if (lane := self._lanes.get(customer)) is not None:
                lane.staying = True
        self._waiting -= len(taken)
        self._cost -= sum(row.cost for row in taken)
        return taken
