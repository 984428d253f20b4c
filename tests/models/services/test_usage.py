from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable

import pytest
from sqlalchemy import update

from models.errors import NotFound
from models.records.customers import Customer
from models.records.files import File
from models.records.usage import UsageRecord
from models.services import customers, jobs, usage
from models.services.resources import Resources
from models.services.usage import UsageDelta, UsageSummary

from .conftest import Bench

MakeCustomer = Callable[..., Customer]


def test_deltas_add_up_and_arrive_once(resources: Resources, customer: MakeCustomer) -> None:
    acme, gone = customer("acme"), customer("gone")
    customers.delete(resources, gone.id)
    deltas = [
        UsageDelta(acme.id, "ft:minilm:acme:tickets", requests=2, rows=5, tokens=50, seconds=0.5, hour=7_200),
        UsageDelta(acme.id, "ft:minilm:acme:tickets", requests=1, rows=1, tokens=10, seconds=0.25, hour=7_200),
        UsageDelta(acme.id, "minilm", requests=1, rows=1, tokens=9, seconds=0.1, kind="embedding", hour=3_600),
        UsageDelta(gone.id, "ft:minilm:gone:x", requests=1, rows=1, tokens=1, seconds=1.0, hour=7_200),
    ]
    for _ in range(2):  # the first answer was lost
        usage.record_predictions(resources, deltas)
    usage.record_predictions(resources, [])
    assert usage.list_page(resources, acme.id, 0, 1e11).data == [
        UsageSummary(3_600, "embedding", "minilm", 1, 1, 9, 0.1),
        UsageSummary(7_200, "prediction", "ft:minilm:acme:tickets", 3, 6, 60, 0.75),
    ]
    assert len(usage.list_page(resources, acme.id, 3_600, 7_200).data) == 1
    assert usage.list_page(resources, acme.id, 7_201, 1e11).data == []
    assert usage.list_page(resources, customer().id, 0, 1e11).data == []


def test_a_flush_is_one_insert_however_many_customers_it_is_of(
    resources: Resources, customer: MakeCustomer, statements: list[str]
) -> None:
    owners = [customer() for _ in range(20)]
    deltas = [UsageDelta(owner.id, "minilm", requests=1, rows=2, tokens=3, seconds=0.5, hour=0) for owner in owners]
    statements.clear()
    usage.record_predictions(resources, deltas)
    assert sum(statement.startswith("INSERT") for statement in statements) == 1
    assert len(statements) <= 3
    for owner in owners:
        assert usage.list_page(resources, owner.id, 0, 1).data == [
            UsageSummary(0, "prediction", "minilm", 1, 2, 3, 0.5)
        ]


def test_sums_by_day_and_by_what_is_asked_for(resources: Resources, customer: MakeCustomer) -> None:
    acme = customer()
    day = 86_400
    deltas = [
        UsageDelta(acme.id, model, 1, 2, 3, 0.5, kind=kind, hour=hour)
        for hour in (0, 3_600, day, day + 3_600)
        for kind in ("embedding", "prediction")
        for model in ("a", "b")
    ]
    usage.record_predictions(resources, deltas)

    def sums(*by: usage.Group, start: float = 0, end: float = 1e6) -> list[tuple[int, str, str, int]]:
        page = usage.list_page(resources, acme.id, start, end, width_s=day, by=by)
        return [(row.start, row.kind, row.model, row.requests) for row in page.data]

    assert sums() == [(0, "", "", 8), (day, "", "", 8)]
    assert sums("model") == [(0, "", "a", 4), (0, "", "b", 4), (day, "", "a", 4), (day, "", "b", 4)]
    assert sums("kind", end=day) == [(0, "embedding", "", 4), (0, "prediction", "", 4)]
    assert len(sums("kind", "model")) == 8
    # A part of a day is what lies in it.
    assert sums(start=3_600, end=day) == [(0, "", "", 4)]


def test_pages_follow_one_another_without_gaps_and_overlaps(resources: Resources, customer: MakeCustomer) -> None:
    acme = customer()
    models = [f"ft:base/small:acme:m{at}" for at in range(5)]
    deltas = [UsageDelta(acme.id, model, 1, 1, 1, 1.0, hour=hour) for model in models for hour in (0, 3_600)]
    usage.record_predictions(resources, deltas)
    whole = usage.list_page(resources, acme.id, 0, 1e6)
    assert (len(whole.data), whole.has_more) == (10, False)
    found, after = [], None
    while True:
        page = usage.list_page(resources, acme.id, 0, 1e6, after=after, limit=3)
        found += page.data
        if not page.has_more:
            break
        after = page.data[-1].id
    assert found == whole.data
    for wrong in ("never", "1/2", "x/kind/model"):
        with pytest.raises(NotFound):
            usage.list_page(resources, acme.id, 0, 1e6, after=wrong)


def test_hours_in_which_nobody_swept_are_made_up_for(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    acme = customer()
    old, new = bench.file(acme), bench.file(acme, labels=("card", "loan", "fees"))
    now = time.time()
    with resources.database.transaction() as session:
        session.execute(update(File).where(File.id == old.id).values(created_at=now - 90_000))
        session.execute(update(File).where(File.id == new.id).values(created_at=now - 2 * 3_600))
    assert usage.record_storage(resources) == 1  # the first ever: nothing is made up
    with resources.database.transaction() as session:  # as if the last sweep had been five hours ago
        session.execute(update(UsageRecord).values(hour=UsageRecord.hour - 5 * 3_600, id="storage-of-then"))
    assert usage.record_storage(resources) == 5
    assert usage.record_storage(resources) == 0
    rows = [row for row in usage.list_page(resources, acme.id, now - 90_000, now + 60).data if row.kind == "storage"]
    both = (old.bytes + new.bytes) / 24
    assert [row.byte_days for row in rows] == [both, *[old.bytes / 24] * 2, *[both] * 3]
    hours = [row.start for row in rows]
    assert [later - earlier for earlier, later in itertools.pairwise(hours)] == [3_600] * 5


def test_what_is_stored_counts_once_an_hour_whoever_sweeps(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    acme, other = customer(), customer()
    file = bench.file(acme)
    bench.succeed(acme, training_file=file.id, suffix="tickets")
    bench.file(other)
    recorded: list[int] = []
    threads = [threading.Thread(target=lambda: recorded.append(usage.record_storage(resources))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(recorded) == 4
    assert max(recorded) == 3
    now = time.time()
    everything = usage.list_page(resources, acme.id, now - 7_200, now + 60).data
    found = [row for row in everything if row.kind == "storage"][-2:]  # of this hour, if it has just begun
    stored = {row.model: row.byte_days for row in found}
    [version] = jobs.checkpoints_page(resources, acme.id, jobs.list_page(resources, acme.id).data[0].id).data
    assert stored == {"": file.bytes / 24, "ft:minilm:" + acme.name + ":tickets": version.bytes / 24}
    assert {(row.kind, row.requests, row.rows, row.seconds) for row in found} == {("storage", 0, 0, 0.0)}
