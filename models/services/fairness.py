"""Whose job is trained next: a pure function of who waits since when, what runs, and what was used lately.

The customer with the fewest running jobs comes first; among those the one that waits longest, where what a customer
used lately counts as if it had come later. So customers with many jobs alternate, one that used less comes sooner, and
nobody starves: a customer that waits stands before all who come later than its delay, however many they are, and
whatever they used. (Ordering by use alone would let a stream of newcomers hold up a heavy customer for ever.)
"""

from __future__ import annotations

from collections.abc import Iterable

from models.records.training_shares import WaitingCustomer

# Ten minutes of training lately count like coming one minute later: newcomers overtake a backlog at once, and one
# that trained for hours still gets its turns beside them.
DELAY_PER_USED_S = 0.1


def order(waiting: Iterable[WaitingCustomer]) -> list[WaitingCustomer]:
    """Return the customers in the order in which their oldest queued jobs are to be trained."""
    return sorted(waiting, key=lambda one: (one.running, _turn(one), one.waits_since, one.customer_id))


def _turn(one: WaitingCustomer) -> float:
    return one.waits_since + DELAY_PER_USED_S * one.used_s
