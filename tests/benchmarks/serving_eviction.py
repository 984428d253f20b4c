"""Row 5: the first request of a customer whose adapter is not in memory, with the artifacts in an S3 server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import boto3
import numpy as np
from pydantic import SecretStr

from models.serving.predictor import Predictor
from tests.benchmarks.serving_compute import load
from tests.benchmarks.serving_load import Ask, each, medians, turns, uniform
from tests.benchmarks.serving_plan import Found, Plan
from tests.benchmarks.serving_traffic import DRAWN, closed_loops
from tests.benchmarks.serving_world import World, asking, build, predicting

CUSTOMERS = 250
# Smaller than two adapters: whoever asks after somebody else is evicted.
ONE_ADAPTER = 1
# Of all adapters, what there is memory for.
SHARES = (1.0, 0.5, 0.25, 0.1)


def evicted(plan: Plan) -> Found:
    """Requests one at a time; warm, from the local disk and from the store in turn, so that all see the same moment."""
    with _s3() as settings:
        count = min(CUSTOMERS, plan.customers)
        return asyncio.run(_evicted(plan, build(plan.folder / "s3", load("auto"), count, **settings)))


async def _evicted(plan: Plan, world: World) -> Found:
    def place(name: str, **limits: int) -> contextlib.AbstractAsyncContextManager[Any]:
        return predicting(world, data_dir=plan.folder / name, **limits)

    homes = {
        "memory": place("warm"),
        "disk": place("from-disk", adapter_memory_bytes=ONE_ADAPTER),
        "store": place("from-store", adapter_memory_bytes=ONE_ADAPTER, adapter_disk_bytes=1),
    }
    latencies: dict[str, list[list[float]]] = {name: [] for name in homes}
    async with contextlib.AsyncExitStack() as stack:
        customers = range(world.count)
        asks: dict[str, Ask] = {}
        predictors: dict[str, Predictor] = {}
        for name, home in homes.items():
            predictors[name] = await stack.enter_async_context(home)
            asks[name] = asking(predictors[name], world, customers, plan.texts)
            await each(asks[name], customers)
        for _ in range(plan.rounds):
            found: dict[str, list[float]] = {name: [] for name in homes}
            for number, name in enumerate(turns(homes, world.count)):
                began = time.perf_counter()
                await asks[name](number // len(homes))
                found[name].append((time.perf_counter() - began) * 1e3)
            for name, values in found.items():
                latencies[name].append(values)
        working_set = predictors["memory"].cache.bytes
    rates = await _beyond_memory(plan, world, working_set)
    p99 = medians({name: [float(np.percentile(values, 99)) for values in found] for name, found in latencies.items()})
    p50 = medians({name: [float(np.percentile(values, 50)) for values in found] for name, found in latencies.items()})
    return {
        "value": p99["store"] / p99["memory"],
        "from_disk": p99["disk"] / p99["memory"],
        "p99_ms": p99,
        "p50_ms": p50,
        "requests_per_s": rates,
        "tenth_over_all": rates[str(SHARES[-1])] / rates[str(SHARES[0])],
    }


async def _beyond_memory(plan: Plan, world: World, working_set: int) -> dict[str, float]:
    """Answers per second, everybody equally popular, with room for a share of the adapters; the rest is on disk."""
    async with contextlib.AsyncExitStack() as stack:
        asks: dict[str, Ask] = {}
        for share in SHARES:
            limit = max(1, int(share * working_set))
            home = predicting(world, data_dir=plan.folder / f"share-{share}", adapter_memory_bytes=limit)
            predictor = await stack.enter_async_context(home)
            await each(asking(predictor, world, range(world.count), plan.texts), range(world.count))
            asks[str(share)] = asking(predictor, world, uniform(world.count, DRAWN), plan.texts)
        runs = await closed_loops(asks, plan)
    return medians({name: [run.rate for run in found] for name, found in runs.items()})


@contextlib.contextmanager
def _s3() -> Iterator[dict[str, Any]]:
    """An S3 server of its own process, and the settings that name it."""
    code = (
        "import json,sys,time\n"
        "from moto.server import ThreadedMotoServer\n"
        "server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False); server.start()\n"
        "print(json.dumps(server.get_host_and_port()), flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # a line for each request
        text=True,
    )
    try:
        if process.stdout is None:
            raise RuntimeError("no pipe")
        host, port = json.loads(process.stdout.readline())
        endpoint = f"http://{host}:{port}"
        boto3.client(
            "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
        ).create_bucket(Bucket="bench")
        yield {
            "object_store": "s3://bench/graft",
            "s3_endpoint_url": endpoint,
            "s3_access_key_id": SecretStr("a"),
            "s3_secret_access_key": SecretStr("b"),
        }
    finally:
        process.kill()
        process.wait()
