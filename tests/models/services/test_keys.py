from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from models.errors import NotFound
from models.records.customers import Customer
from models.records.keys import KeyStatus
from models.services import accounts, changes, customers, keys
from models.services.accounts import AccountChange
from models.services.errors import (
    InvalidMetadata,
    InvalidName,
    KeyEndsBefore,
    KeyNotActive,
    NameTaken,
    QuotaExceeded,
)
from models.services.resources import Resources

from .conftest import Bench

MakeCustomer = Callable[..., Customer]


def test_a_key_is_found_by_its_secret_alone(resources: Resources, customer: MakeCustomer) -> None:
    acme = customer("acme")
    issued = keys.issue(resources, acme.id, name="production", expires_at=2e9)
    assert issued.secret.startswith(issued.key.prefix)
    assert len(issued.secret) > 40
    record = keys.find(resources, keys.hash_secret(issued.secret))
    assert record is not None
    assert (record.key_id, record.customer_id, record.customer_name) == (issued.key.id, acme.id, "acme")
    assert (record.expires_at, record.revoked_at) == (2e9, None)
    assert keys.find(resources, keys.hash_secret("gr-guess")) is None
    page = keys.list_page(resources, acme.id)
    assert [key.id for key in page.data] == [issued.key.id]
    assert issued.secret not in str(vars(page.data[0]))


def test_revoked_is_revoked(resources: Resources, customer: MakeCustomer) -> None:
    acme = customer()
    issued = keys.issue(resources, acme.id, name="production")
    before = len(changes.since(resources, 60))
    first, again = (keys.revoke(resources, acme.id, issued.key.id) for _ in range(2))
    assert first.revoked_at == again.revoked_at is not None
    [change] = changes.since(resources, 60)[before:]
    assert (change.kind, change.subject) == ("key", issued.key.hash)
    with pytest.raises(KeyNotActive):
        keys.rotate(resources, acme.id, issued.key.id)


def test_a_key_that_would_have_ended_already_is_not_issued(resources: Resources, customer: MakeCustomer) -> None:
    acme = customer()
    for instant in (1.0, time.time() - 3600):
        with pytest.raises(KeyEndsBefore, match=f"expires_at is {instant:.0f}, .* Give Unix seconds to come"):
            keys.issue(resources, acme.id, name="old", expires_at=instant)
    assert keys.list_page(resources, acme.id).data == []


def test_rotation(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme = customer()
    old = keys.issue(resources, acme.id, name="production")
    new = keys.rotate(resources, acme.id, old.key.id, grace_s=60)
    assert (new.key.name, new.secret == old.secret) == ("production", False)
    record = keys.find(resources, keys.hash_secret(old.secret))
    assert record is not None
    assert record.revoked_at is None
    assert record.expires_at == pytest.approx(time.time() + 60, abs=60)
    newest = keys.rotate(resources, acme.id, new.key.id)
    ended = keys.find(resources, keys.hash_secret(new.secret))
    assert ended is not None
    assert ended.revoked_at is not None
    expired = bench.expired_key(acme, "old")
    with pytest.raises(KeyNotActive, match="expired"):
        keys.rotate(resources, acme.id, expired.key.id)
    assert keys.find(resources, keys.hash_secret(newest.secret)) is not None


def test_rotations_with_a_grace_exceed_the_quota_by_one_key(resources: Resources, customer: MakeCustomer) -> None:
    acme = customer()
    accounts.update(resources, acme.id, AccountChange(limits={"keys": 2}))
    first, second = (keys.issue(resources, acme.id, name=name).key.id for name in ("first", "second"))
    successor = keys.rotate(resources, acme.id, first, grace_s=60).key.id
    for key_id in (first, second, successor):
        with pytest.raises(QuotaExceeded):
            keys.rotate(resources, acme.id, key_id, grace_s=60)
    # A key that has leaked is replaced whatever the quota.
    second = keys.rotate(resources, acme.id, second).key.id
    assert len(keys.list_page(resources, acme.id, status=["valid"]).data) == 3
    keys.revoke(resources, acme.id, first)
    keys.rotate(resources, acme.id, second, grace_s=60)


def test_keys_are_listed_by_their_state(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme = customer()
    valid = keys.issue(resources, acme.id, name="valid").key.id
    later = keys.issue(resources, acme.id, name="later", expires_at=4e9).key.id
    expired = bench.expired_key(acme, "expired").key.id
    revoked = bench.expired_key(acme, "revoked").key.id
    keys.revoke(resources, acme.id, revoked)

    def listed(*status: KeyStatus) -> set[str]:
        return {key.id for key in keys.list_page(resources, acme.id, status=status).data}

    assert listed() == {valid, later, expired, revoked}
    assert (listed("valid"), listed("expired"), listed("revoked")) == ({valid, later}, {expired}, {revoked})
    assert listed("expired", "revoked") == {expired, revoked}
    # A key that left its state since its page was read is still where the next one begins.
    keys.revoke(resources, acme.id, later)
    rest = keys.list_page(resources, acme.id, after=later, status=("valid",))
    assert [key.id for key in rest.data] == [valid]


def test_keys_of_others_do_not_exist(resources: Resources, customer: MakeCustomer) -> None:
    issued = keys.issue(resources, customer().id, name="production")
    other = customer()
    for act in (keys.rotate, keys.revoke):
        with pytest.raises(NotFound):
            act(resources, other.id, issued.key.id)
    assert keys.list_page(resources, other.id).data == []
    for act in (keys.list_page, lambda res, id_: keys.issue(res, id_, name="x")):
        with pytest.raises(NotFound):
            act(resources, "cus_never")


def test_last_use_only_grows(resources: Resources, customer: MakeCustomer) -> None:
    acme = customer()
    issued = keys.issue(resources, acme.id, name="production")
    for used_at in (100.0, 300.0, 200.0):
        keys.touch(resources, {issued.key.id: used_at, "key_gone": 1.0})
    assert keys.list_page(resources, acme.id).data[0].last_used_at == 300.0


def test_all_uses_are_noted_in_one_statement(
    resources: Resources, customer: MakeCustomer, statements: list[str]
) -> None:
    acme = customer()
    issued = [keys.issue(resources, acme.id, name=f"key {at}").key.id for at in range(20)]
    statements.clear()
    keys.touch(resources, {key_id: 100.0 + at for at, key_id in enumerate(issued)})
    assert [statement.split()[0] for statement in statements] == ["UPDATE"]
    found = {key.id: key.last_used_at for key in keys.list_page(resources, acme.id).data}
    assert found == {key_id: 100.0 + at for at, key_id in enumerate(issued)}
    statements.clear()
    noted = changes.since(resources, 60)
    assert len(noted) == 20
    assert [statement.split("FROM")[0].count("changes.") for statement in statements] == [4]


def test_customers_have_names_of_their_own(resources: Resources) -> None:
    acme = customers.create(resources, name="acme", metadata={"plan": "pro"})
    assert customers.get(resources, acme.id).meta == {"plan": "pro"}
    with pytest.raises(NameTaken):
        customers.create(resources, name="acme")
    for name in ("", "Acme", "a:b", "a/b", "x" * 65, "-a"):
        with pytest.raises(InvalidName):
            customers.create(resources, name=name)
    with pytest.raises(InvalidMetadata):
        customers.create(resources, name="beta", metadata={"nul": "\0"})
    with pytest.raises(NotFound):
        customers.get(resources, "cus_never")
    with pytest.raises(NotFound):
        customers.delete(resources, "cus_never")
    customers.create(resources, name="beta")
    assert [row.name for row in customers.list_page(resources).data] == ["beta", "acme"]
