from __future__ import annotations

from collections.abc import Callable

from models.records.customers import Customer
from models.services import customers, usage
from models.services.resources import Resources
from models.services.usage import UsageDelta, UsageSummary

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
    assert usage.summarise(resources, acme.id, 0, 1e11) == [
        UsageSummary(3_600, "embedding", "minilm", 1, 1, 9, 0.1),
        UsageSummary(7_200, "prediction", "ft:minilm:acme:tickets", 3, 6, 60, 0.75),
    ]
    assert len(usage.summarise(resources, acme.id, 3_600, 7_200)) == 1
    assert usage.summarise(resources, acme.id, 7_201, 1e11) == []
    assert usage.summarise(resources, customer().id, 0, 1e11) == []


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
        assert usage.summarise(resources, owner.id, 0, 1) == [UsageSummary(0, "prediction", "minilm", 1, 2, 3, 0.5)]
