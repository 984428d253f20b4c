from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update

from models.errors import NotFound
from models.records import changes
from models.records.changes import Change
from models.records.customers import Customer
from models.records.keys import ApiKey
from models.records.versions import ModelVersion
from models.services import customers, keys
from models.services.access import resolver as directory_module
from models.services.access.errors import InvalidKey
from models.services.access.lookup_cache import Entry, LookupCache
from models.services.access.resolver import AccessResolver
from models.services.resources import Resources


def test_a_key_speaks_for_its_customer_until_it_is_revoked(
    customer: Callable[..., Customer], resources: Resources
) -> None:
    acme = customer("acme")
    issued = keys.issue(resources, acme.id, name="production")

    async def run() -> None:
        directory = AccessResolver(resources, poll_s=0.05)
        await directory.start()
        principal = await directory.authenticate(issued.secret)
        assert (principal.customer_id, principal.customer_name) == (acme.id, "acme")
        await asyncio.to_thread(keys.revoke, resources, acme.id, issued.key.id)
        await refused(directory, issued.secret)
        await directory.close()

    asyncio.run(run())
    assert keys.list_page(resources, acme.id).data[0].last_used_at is not None


async def refused(directory: AccessResolver, secret: str, *, seconds: float = 8.0) -> None:
    """Wait until the key is dead."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                await directory.authenticate(secret)
            except InvalidKey:
                return
            await asyncio.sleep(0.02)


def test_a_revoked_key_dies_by_itself_when_changes_cannot_be_read(
    customer: Callable[..., Customer], resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme = customer()
    issued = keys.issue(resources, acme.id, name="production")
    # The tests' own stretch of time: what counts is that the entry ends without any poll.
    monkeypatch.setattr(directory_module, "EXPIRY_S", 0.5)

    async def run() -> None:
        directory = AccessResolver(resources, poll_s=3_600)
        await directory.start()
        await directory.authenticate(issued.secret)
        await asyncio.to_thread(keys.revoke, resources, acme.id, issued.key.id)
        await refused(directory, issued.secret)
        await directory.close()

    asyncio.run(run())


def test_a_change_that_became_visible_late_is_noticed(
    customer: Callable[..., Customer], resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme = customer()
    issued = keys.issue(resources, acme.id, name="production")
    monkeypatch.setattr(directory_module, "LOOK_BACK_EVERY_S", 0.1)

    def revoke_slowly() -> None:
        """As a writer does it whose transaction takes two minutes."""
        with resources.database.transaction() as session:
            session.execute(update(ApiKey).where(ApiKey.id == issued.key.id).values(revoked_at=time.time()))
            changes.record(session, "key", keys.hash_secret(issued.secret))
            session.execute(update(Change).values(created_at=Change.created_at - 120.0))

    async def run() -> None:
        directory = AccessResolver(resources, poll_s=0.05)
        await directory.start()
        await directory.authenticate(issued.secret)
        await asyncio.to_thread(revoke_slowly)
        await refused(directory, issued.secret)
        await directory.close()

    asyncio.run(run())


def test_unknown_and_expired_keys_are_refused_and_a_new_one_works_at_once(
    customer: Callable[..., Customer], resources: Resources
) -> None:
    acme = customer()
    expired = keys.issue(resources, acme.id, name="old", expires_at=time.time() - 1)

    async def run() -> None:
        directory = AccessResolver(resources, poll_s=0.05)
        await directory.start()
        for secret in ("gr-unknown", "", expired.secret, "\ud800"):
            with pytest.raises(InvalidKey):
                await directory.authenticate(secret)
        fresh = await asyncio.to_thread(lambda: keys.issue(resources, acme.id, name="new"))
        assert (await directory.authenticate(fresh.secret)).customer_id == acme.id
        await directory.close()

    asyncio.run(run())


def test_a_deleted_customer_is_forgotten(
    customer: Callable[..., Customer], publish: Callable[..., ModelVersion], resources: Resources
) -> None:
    acme = customer()
    publish(acme)
    secret = keys.issue(resources, acme.id, name="production").secret
    gone: list[str] = []

    async def run() -> None:
        directory = AccessResolver(resources, poll_s=0.05, on_customer_gone=gone.append)
        await directory.start()
        await directory.authenticate(secret)
        await directory.resolve(acme.id, "tickets")
        await asyncio.to_thread(customers.delete, resources, acme.id)
        await refused(directory, secret)
        with pytest.raises(NotFound):
            await directory.resolve(acme.id, "tickets")
        assert gone == [acme.id]
        await directory.close()

    asyncio.run(run())


def test_many_callers_ask_once_and_a_change_under_way_is_not_kept() -> None:
    asked: list[float] = []
    may_answer = threading.Event()

    def ask() -> str:
        asked.append(time.monotonic())
        may_answer.wait(10)
        return "old"

    async def run() -> None:
        memo: LookupCache[str] = LookupCache(subjects=10, is_fresh=lambda entry: True)
        waiting = [asyncio.create_task(memo.get("acme", "tickets", ask)) for _ in range(20)]
        while not asked:
            await asyncio.sleep(0.01)
        memo.forget("acme")  # a change that is younger than the question
        may_answer.set()
        assert {(await one).value for one in waiting} == {"old"}
        assert len(asked) == 1
        assert memo.peek("acme", "tickets") is None
        assert (await memo.get("acme", "tickets", lambda: "new")).value == "new"

    asyncio.run(run())


def test_memory_is_bounded_by_subjects_and_by_names_of_one_subject() -> None:
    async def run() -> None:
        memo: LookupCache[Any] = LookupCache(subjects=10, is_fresh=lambda entry: True)
        for number in range(50):
            await memo.get(f"customer-{number}", "x", lambda: None)
        assert len(memo) == 10
        assert isinstance(memo.peek("customer-49", "x"), Entry)
        assert memo.peek("customer-1", "x") is None

    asyncio.run(run())
