from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import update

from models.errors import NotFound
from models.records import changes
from models.records.changes import Change
from models.records.customers import Customer
from models.records.keys import ApiKey
from models.services import customers, keys
from models.services.access.errors import InvalidKey
from models.services.access.resolver import AccessResolver, RefreshTiming
from models.services.resources import Resources
from tests.models.services.conftest import Bench


def test_a_key_speaks_for_its_customer_until_it_is_revoked(
    customer: Callable[..., Customer], resources: Resources
) -> None:
    acme = customer("acme")
    issued = keys.issue(resources, acme.id, name="production")

    async def run() -> None:
        access = AccessResolver(resources, RefreshTiming(poll_s=0.05))
        await access.start()
        principal = await access.authenticate(issued.secret)
        assert (principal.customer_id, principal.customer_name) == (acme.id, "acme")
        await asyncio.to_thread(keys.revoke, resources, acme.id, issued.key.id)
        await refused(access, issued.secret)
        await access.close()

    asyncio.run(run())
    assert keys.list_page(resources, acme.id).data[0].last_used_at is not None


async def refused(access: AccessResolver, secret: str, *, seconds: float = 8.0) -> None:
    """Wait until the key is dead."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                await access.authenticate(secret)
            except InvalidKey:
                return
            await asyncio.sleep(0.02)


def test_a_revoked_key_dies_by_itself_when_changes_cannot_be_read(
    customer: Callable[..., Customer], resources: Resources
) -> None:
    acme = customer()
    issued = keys.issue(resources, acme.id, name="production")
    # Shorter than in service: what counts is that the entry ends without any poll.
    timing = RefreshTiming(poll_s=3_600, expiry_s=0.5)

    async def run() -> None:
        access = AccessResolver(resources, timing)
        await access.start()
        await access.authenticate(issued.secret)
        await asyncio.to_thread(keys.revoke, resources, acme.id, issued.key.id)
        await refused(access, issued.secret)
        await access.close()

    asyncio.run(run())


def test_a_change_that_became_visible_late_is_noticed(customer: Callable[..., Customer], resources: Resources) -> None:
    acme = customer()
    issued = keys.issue(resources, acme.id, name="production")

    def revoke_slowly() -> None:
        """As a writer does it whose transaction takes two minutes."""
        with resources.database.transaction() as session:
            session.execute(update(ApiKey).where(ApiKey.id == issued.key.id).values(revoked_at=time.time()))
            changes.record(session, "key", keys.hash_secret(issued.secret))
            session.execute(update(Change).values(created_at=Change.created_at - 120.0))

    async def run() -> None:
        access = AccessResolver(resources, RefreshTiming(poll_s=0.05, look_back_every_s=0.1))
        await access.start()
        await access.authenticate(issued.secret)
        await asyncio.to_thread(revoke_slowly)
        await refused(access, issued.secret)
        await access.close()

    asyncio.run(run())


def test_unknown_and_expired_keys_are_refused_and_a_new_one_works_at_once(
    customer: Callable[..., Customer], bench: Bench, resources: Resources
) -> None:
    acme = customer()
    expired = bench.expired_key(acme, "old")

    async def run() -> None:
        access = AccessResolver(resources, RefreshTiming(poll_s=0.05))
        await access.start()
        for secret in ("gr-unknown", "", expired.secret, "\ud800"):
            with pytest.raises(InvalidKey):
                await access.authenticate(secret)
        fresh = await asyncio.to_thread(lambda: keys.issue(resources, acme.id, name="new"))
        assert (await access.authenticate(fresh.secret)).customer_id == acme.id
        await access.close()

    asyncio.run(run())


def test_a_deleted_customer_is_forgotten(customer: Callable[..., Customer], bench: Bench, resources: Resources) -> None:
    acme = customer()
    bench.succeed(acme, suffix="tickets")
    secret = keys.issue(resources, acme.id, name="production").secret
    gone: list[str] = []

    async def run() -> None:
        access = AccessResolver(resources, RefreshTiming(0.05), on_customer_gone=gone.append)
        await access.start()
        await access.authenticate(secret)
        await access.resolve(acme.id, "tickets")
        await asyncio.to_thread(customers.delete, resources, acme.id)
        await refused(access, secret)
        with pytest.raises(NotFound):
            await access.resolve(acme.id, "tickets")
        assert gone == [acme.id]
        await access.close()

    asyncio.run(run())


def test_a_key_in_use_is_known_until_it_is_found_to_be_gone(
    customer: Callable[..., Customer], resources: Resources
) -> None:
    """Before, another customer's end made every key unknown: beside guesses it was refused like one of them."""
    acme, other = customer("acme"), customer("other")
    issued = keys.issue(resources, acme.id, name="production")

    async def run() -> None:
        gone: list[str] = []
        access = AccessResolver(resources, RefreshTiming(poll_s=0.02), on_customer_gone=gone.append)
        await access.start()
        assert not access.knows(issued.secret)
        await access.authenticate(issued.secret)
        await asyncio.to_thread(customers.delete, resources, other.id)
        async with asyncio.timeout(8.0):
            while not gone:
                await asyncio.sleep(0.02)
        assert access.knows(issued.secret)
        await asyncio.to_thread(customers.delete, resources, acme.id)
        await refused(access, issued.secret)
        assert not access.knows(issued.secret)
        await access.close()

    asyncio.run(run())


def test_a_name_that_no_model_can_have_is_not_kept(customer: Callable[..., Customer], resources: Resources) -> None:
    acme = customer()

    async def run() -> None:
        access = AccessResolver(resources)
        with pytest.raises(NotFound) as caught:
            await access.resolve(acme.id, "w" * 50_000)
        assert len(str(caught.value)) < 200
        assert acme.id not in access._versions
        await access.close()

    asyncio.run(run())


def test_keys_and_names_are_looked_up_while_the_event_loops_own_threads_are_busy(
    customer: Callable[..., Customer], bench: Bench, resources: Resources
) -> None:
    """Before, one customer's long work on those threads stopped everybody's requests."""
    acme = customer()
    bench.succeed(acme, suffix="tickets")
    secret = keys.issue(resources, acme.id, name="production").secret
    going_on = threading.Event()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        busy = loop.run_in_executor(None, going_on.wait)
        access = AccessResolver(resources, RefreshTiming(0.05))
        try:
            async with asyncio.timeout(60):
                await access.start()
                assert (await access.authenticate(secret)).customer_id == acme.id
                assert (await access.resolve(acme.id, "tickets")).number == 1
        finally:
            going_on.set()
        await busy
        await access.close()

    asyncio.run(run())
