"""Places at the upstream server: by tokens, customer by customer."""

from __future__ import annotations

import asyncio

import pytest

from models.serving.errors import QueueFull
from models.serving.upstream.turns import Turns


def test_who_was_served_least_comes_first() -> None:
    async def run() -> None:
        turns, order = Turns(places=1, queue_per_customer=8), []

        async def ask(customer: str, tokens: int) -> None:
            await turns.take(customer, 1)
            order.append(customer)
            turns.charge(customer, tokens)
            turns.give_back(customer, 1)

        await turns.take("first", 1)
        asked = [asyncio.create_task(ask("big", 100)) for _ in range(3)]
        asked += [asyncio.create_task(ask("small", 10)) for _ in range(3)]
        await asyncio.sleep(0)
        assert turns.waiting == 6
        turns.give_back("first", 1)
        await asyncio.gather(*asked)
        assert order == ["big", "small", "small", "small", "big", "big"]
        assert (turns.held, turns.waiting) == (0, 0)

    asyncio.run(run())


def test_who_leaves_just_before_its_turn_takes_no_places_along() -> None:
    async def run() -> None:
        turns = Turns(places=1, queue_per_customer=8)
        await turns.take("acme", 1)
        leaving = [asyncio.create_task(turns.take("acme", 1)), asyncio.create_task(turns.take("zeta", 1))]
        following = asyncio.create_task(turns.take("acme", 1))
        await asyncio.sleep(0)
        for task in leaving:
            task.cancel()
        turns.give_back("acme", 1)  # before the cancelled ones have run
        await following
        await asyncio.gather(*leaving, return_exceptions=True)
        assert (turns.held, turns.waiting) == (1, 0)
        turns.give_back("acme", 1)
        assert turns._served == {}

    asyncio.run(run())


def test_a_customers_queue_is_bounded_and_who_leaves_frees_its_place() -> None:
    async def run() -> None:
        turns = Turns(places=2, queue_per_customer=3)
        await turns.take("acme", 2)
        waiting = asyncio.create_task(turns.take("acme", 1))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull) as caught:
            await turns.take("acme", 1)
        assert caught.value.retry_after_s >= 1
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert turns.waiting == 0
        # Granted and cancelled in the same moment: the place goes to the next one.
        granted, following = asyncio.create_task(turns.take("zeta", 2)), asyncio.create_task(turns.take("beta", 1))
        await asyncio.sleep(0)
        turns.give_back("acme", 2)
        granted.cancel()
        await asyncio.gather(granted, return_exceptions=True)
        await following
        assert turns.held == 1
        # More choices than places go alone.
        alone = asyncio.create_task(turns.take("acme", 3))
        await asyncio.sleep(0)
        assert not alone.done()
        turns.give_back("beta", 1)
        await alone

    asyncio.run(run())
