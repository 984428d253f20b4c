"""What is left of a deleted customer: nothing, and nobody waits for it to go."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from models.records.customers import Customer
from models.records.versions import ModelVersion
from models.services import customers
from models.services.resources import Resources
from models.serving.adapters.disk_cache import ArtifactDiskCache
from models.settings import Settings
from tests.models.serving.conftest import call, until


def test_nothing_of_a_deleted_customer_stays(
    customer: Callable[..., Customer],
    publish: Callable[..., ModelVersion],
    predicting: Any,
    resources: Resources,
    settings: Settings,
) -> None:
    acme, other = customer(), customer()
    publish(acme)
    publish(other)

    async def run() -> None:
        async with predicting() as predictor:
            await predictor.predict(call(acme))
            await predictor.predict(call(other))
            await asyncio.to_thread(customers.delete, resources, acme.id)
            await until(lambda: len(predictor.cache) == 1)
            await until(lambda: not list((settings.cache_dir / "adapters").glob(f"*/{acme.id}/*")))
            assert (await predictor.predict(call(other))).predictions

    asyncio.run(run())


def test_others_are_answered_while_a_deleted_customers_files_go(
    customer: Callable[..., Customer],
    publish: Callable[..., ModelVersion],
    predicting: Any,
    resources: Resources,
    settings: Settings,
) -> None:
    acme, other = customer(), customer()
    publish(acme)
    publish(other)
    reached, go_on = threading.Event(), threading.Event()

    class SlowToRemove(ArtifactDiskCache):
        def remove_customer(self, customer_id: str) -> None:
            reached.set()
            assert go_on.wait(30)
            super().remove_customer(customer_id)

    artifacts = SlowToRemove(resources.store, settings.cache_dir / "adapters", limit_bytes=2**30)

    async def run() -> None:
        async with predicting(artifacts=artifacts) as predictor:
            await predictor.predict(call(acme))
            await asyncio.to_thread(customers.delete, resources, acme.id)
            await until(reached.is_set)
            assert (await predictor.predict(call(other))).predictions
            assert list((settings.cache_dir / "adapters").glob(f"*/{acme.id}/*"))
            closing = asyncio.create_task(predictor.close())
            await until(lambda: not predictor.runners())
            go_on.set()
            await closing
            assert not list((settings.cache_dir / "adapters").glob(f"*/{acme.id}/*"))

    asyncio.run(run())
