from __future__ import annotations

import threading
from dataclasses import dataclass

import pytest

from models.serving.fair_queue import FairQueue


@dataclass(eq=False)
class Row:
    owner: object
    cost: int


def test_every_customer_gets_the_same_share_of_tokens_whatever_the_size_of_its_rows() -> None:
    queue: FairQueue[Row] = FairQueue(quantum=64)
    queue.put("flood", [Row("flood", 10) for _ in range(1_000)])
    queue.put("long", [Row("long", 200) for _ in range(50)])
    queue.put("short", [Row("short", 5) for _ in range(2_000)])
    taken = {"flood": 0, "long": 0, "short": 0}
    for _ in range(8):
        for row in queue.take(1_000):
            taken[str(row.owner)] += row.cost
    assert max(taken.values()) - min(taken.values()) <= 200 + 2 * 64
    assert sum(taken.values()) > 7_000


def test_a_quiet_customer_leaves_with_the_next_batch() -> None:
    queue: FairQueue[Row] = FairQueue(quantum=64)
    queue.put("flood", [Row("flood", 10) for _ in range(1_000)])
    queue.take(500)
    queue.put("quiet", [Row("quiet", 12)])
    assert any(row.owner == "quiet" for row in queue.take(500))


def test_order_is_kept_within_a_customer_and_nothing_is_lost() -> None:
    queue: FairQueue[Row] = FairQueue(quantum=16)
    rows = {name: [Row(name, 1 + at % 40) for at in range(300)] for name in "abc"}
    for name, theirs in rows.items():
        queue.put(name, theirs)
    taken: list[Row] = []
    while len(queue):
        batch = queue.take(100)
        assert batch
        assert sum(row.cost for row in batch) <= 100
        taken += batch
    for name, theirs in rows.items():
        assert [row for row in taken if row.owner == name] == theirs


def test_a_row_over_the_budget_leaves_alone() -> None:
    queue: FairQueue[Row] = FairQueue(quantum=16)
    queue.put("a", [Row("a", 500), Row("a", 1)])
    assert [row.cost for row in queue.take(100)] == [500]
    assert [row.cost for row in queue.take(100)] == [1]


@pytest.mark.parametrize(("long", "short"), [(256, 64), (512, 20), (8_000, 64), (300, 8)])
def test_long_rows_get_no_larger_share(long: int, short: int) -> None:
    queue: FairQueue[Row] = FairQueue(quantum=64)
    served = {"long": 0, "short": 0}
    waiting = {"long": 0, "short": 0}
    while sum(served.values()) < 40 * long:
        for name, cost in (("long", long), ("short", short)):
            missing = 1_000 - waiting[name]
            queue.put(name, [Row(name, cost) for _ in range(missing)])
            waiting[name] += missing
        batch = queue.take(320)
        assert batch
        for row in batch:
            served[str(row.owner)] += row.cost
            waiting[str(row.owner)] -= 1
    assert max(served.values()) / min(served.values()) < 1.3


def test_a_customer_whose_rows_come_one_by_one_gets_no_larger_share() -> None:
    queue: FairQueue[Row] = FairQueue(quantum=64)
    queue.put("short", [Row("short", 20) for _ in range(2_000)])
    served = {"long": 0, "short": 0}
    waits = False
    for _ in range(100):
        if not waits:
            queue.put("long", [Row("long", 256)])
        taken = queue.take(320)
        waits = all(row.owner != "long" for row in taken)
        for row in taken:
            served[str(row.owner)] += row.cost
    assert served["long"] < 1.3 * served["short"]


def test_a_batch_is_filled_up_with_what_still_fits() -> None:
    queue: FairQueue[Row] = FairQueue(quantum=16)
    for name in "abc":
        queue.put(name, [Row(name, 100)])
    assert sorted(str(row.owner) for row in queue.take(300)) == ["a", "b", "c"]


def test_more_rows_of_one_customer_fill_a_batch_only_so_far_while_others_come_and_go() -> None:
    queue: FairQueue[Row] = FairQueue(quantum=16, first=64)
    queue.put("flood", [Row("flood", 10) for _ in range(1_000)])
    assert len(queue.take(200, fill=50)) == 20  # nobody else has been there
    for at in range(20):
        queue.put(f"quiet-{at}", [Row("quiet", 10)])
        taken = queue.take(200, fill=50)
        assert [row.owner for row in taken].count("quiet") == 1
        assert sum(row.cost for row in taken) == (50 if at else 200)  # the first one is a surprise
    for at in range(30):
        queue.put(f"more-{at}", [Row("quiet", 10)])
    assert sum(row.cost for row in queue.take(200, fill=50)) == 200
    sizes = [sum(row.cost for row in queue.take(200, fill=50)) for _ in range(12)]
    assert sizes[1] == 50  # who was there may come back
    assert sizes[-1] == 200


def test_of_two_with_many_rows_neither_is_kept_from_filling_a_batch() -> None:
    queue: FairQueue[Row] = FairQueue(quantum=16, first=64)
    for name in "ab":
        queue.put(name, [Row(name, 10) for _ in range(1_000)])
    for _ in range(30):
        taken = queue.take(200, fill=50)
        assert sum(row.cost for row in taken) == 200
        assert 8 <= [row.owner for row in taken].count("a") <= 12


@pytest.mark.parametrize(
    ("short", "long", "budget", "fill"), [(13, 128, 320, 104), (13, 60, 96, 32), (16, 197, 160, 40)]
)
def test_long_rows_get_no_larger_share_while_others_come_and_go(short: int, long: int, budget: int, fill: int) -> None:
    queue: FairQueue[Row] = FairQueue(quantum=16, first=64)
    served = {"short": 0, "long": 0, "light": 0}
    for name, cost in (("short", short), ("long", long)):
        queue.put(name, [Row(name, cost) for _ in range(5_000)])
    for at in range(400):
        queue.put(f"light-{at}", [Row("light", 12)])
        for row in queue.take(budget, fill=fill):
            served[str(row.owner)] += row.cost
    assert served["light"] >= 395 * 12
    assert 0.4 < served["long"] / served["short"] < 2.5


def test_several_with_many_rows_are_not_others_that_come_and_go() -> None:
    queue: FairQueue[Row] = FairQueue(quantum=16, first=64)
    sizes = []
    waiting = dict.fromkeys("abcd", 0)
    for _ in range(60):
        for name in waiting:
            if not waiting[name]:
                queue.put(name, [Row(name, 10) for _ in range(50)])
                waiting[name] = 50
        taken = queue.take(200, fill=50)
        for row in taken:
            waiting[str(row.owner)] -= 1
        sizes.append(sum(row.cost for row in taken))
    assert min(sizes) > 50


def test_who_had_nothing_waiting_leaves_at_once_with_a_long_row() -> None:
    queue: FairQueue[Row] = FairQueue(quantum=16, first=64)
    queue.put("flood", [Row("flood", 10) for _ in range(1_000)])
    queue.take(200)
    queue.put("quiet", [Row("quiet", 60)])
    assert any(row.owner == "quiet" for row in queue.take(100))


def test_discarded_rows_are_gone() -> None:
    queue: FairQueue[Row] = FairQueue(quantum=16)
    mine, other = object(), object()
    queue.put("a", [Row(mine, 1), Row(other, 1), Row(mine, 1)])
    assert len(queue.discard("a", mine)) == 2
    assert len(queue) == 1
    assert [row.owner for row in queue.take(10)] == [other]
    assert queue.discard("a", mine) == []


def test_take_waits_for_rows_and_ends_with_close() -> None:
    queue: FairQueue[Row] = FairQueue(quantum=16)
    batches: list[list[Row]] = []

    def drain() -> None:
        while queue.wait():
            batches.append(queue.take(100))

    thread = threading.Thread(target=drain)
    thread.start()
    queue.put("a", [Row("a", 1)])
    queue.close()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert sum(map(len, batches)) == 1
