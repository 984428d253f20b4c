from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from models.errors import NotFound
from models.services.access.lookup_cache import Entry, LookupCache
from models.services.access.threads import AccessThreads


@pytest.fixture
def threads() -> Iterator[AccessThreads]:
    found = AccessThreads()
    yield found
    found.close()


def test_many_callers_ask_once_and_a_change_under_way_is_not_kept(threads: AccessThreads) -> None:
    asked: list[float] = []
    may_answer = threading.Event()

    def ask() -> str:
        asked.append(time.monotonic())
        may_answer.wait(10)
        return "old"

    async def run() -> None:
        cache: LookupCache[str] = LookupCache(subjects=10, is_fresh=lambda entry: True, threads=threads)
        waiting = [asyncio.create_task(cache.get("acme", "tickets", ask)) for _ in range(20)]
        while not asked:
            await asyncio.sleep(0.01)
        cache.forget("acme")  # a change that is younger than the question
        may_answer.set()
        assert {(await one).value for one in waiting} == {"old"}
        assert len(asked) == 1
        assert cache.peek("acme", "tickets") is None
        assert (await cache.get("acme", "tickets", lambda: "new")).value == "new"

    asyncio.run(run())


def test_cachery_is_bounded_by_subjects_and_by_names_of_one_subject(threads: AccessThreads) -> None:
    async def run() -> None:
        cache: LookupCache[Any] = LookupCache(subjects=10, is_fresh=lambda entry: True, threads=threads)
        for number in range(50):
            await cache.get(f"customer-{number}", "x", lambda: None)
        assert len(cache) == 10
        assert isinstance(cache.peek("customer-49", "x"), Entry)
        assert cache.peek("customer-1", "x") is None

    asyncio.run(run())


def test_an_error_that_is_kept_holds_nothing_of_the_requests_that_it_ended(threads: AccessThreads) -> None:
    class Body:
        pass

    def ask() -> str:
        raise NotFound(kind="model", id="wrong", param="model")

    async def request(cache: LookupCache[str]) -> weakref.ref[Body]:
        body = Body()
        with pytest.raises(NotFound) as caught:
            (await cache.get("acme", "wrong", ask)).unwrap()
        assert caught.value.as_dict() == NotFound(kind="model", id="wrong", param="model").as_dict()
        del caught
        return weakref.ref(body)

    async def run() -> None:
        cache: LookupCache[str] = LookupCache(subjects=10, is_fresh=lambda entry: True, threads=threads)
        bodies = [await request(cache) for _ in range(3)]
        gc.collect()
        assert cache.peek("acme", "wrong") is not None
        assert [body() for body in bodies] == [None] * 3

    asyncio.run(run())
