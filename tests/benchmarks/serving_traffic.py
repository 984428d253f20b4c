"""Rows that are about traffic: many customers, evicted ones, load, the usual way, a job beside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import boto3
import psutil
import torch
from pydantic import SecretStr

from models.backbones import registry
from models.backbones.packed import pool
from models.serving.predictor import Predictor
from models.settings import Settings
from tests.benchmarks.serving_compute import Row, load
from tests.benchmarks.serving_world import World, build, closed_loop, open_loop, predicting, zipf

# Of one closed-loop run.
REQUESTS = int(os.environ.get("GRAFT_BENCH_REQUESTS", "3000"))


async def many_customers(world: World, texts: Sequence[str], rounds: int) -> Row:
    """Row 2: closed loop over 10 customers, over all of them, and with Zipf's popularity."""
    sizes = [size for size in (10, 100, 1_000, world.count) if size <= world.count]
    traffic = {f"{size} customers": [at % size for at in range(REQUESTS)] for size in sizes}
    for owners in traffic.values():
        random.Random(0).shuffle(owners)
    everybody = random.Random(1)
    traffic[f"{world.count} customers"] = [everybody.randrange(world.count) for _ in range(REQUESTS)]
    traffic["zipf"] = zipf(world.count, REQUESTS)
    async with predicting(world) as predictor:
        await _warm(predictor, world, range(world.count))
        runs: dict[str, list[Any]] = {name: [] for name in traffic}
        for _ in range(rounds):
            for name, owners in traffic.items():
                runs[name].append(
                    await closed_loop(
                        lambda at, owners=owners: predictor.predict(world.call(owners[at], [texts[at % len(texts)]])),
                        requests=REQUESTS,
                    )
                )
    rates = {name: statistics.median(run.rate for run in found) for name, found in runs.items()}
    p99 = {name: statistics.median(run.percentile(99) for run in found) for name, found in runs.items()}
    return {
        "value": rates[f"{world.count} customers"] / rates["10 customers"],
        "uniform_over_zipf": rates[f"{world.count} customers"] / rates["zipf"],
        "requests_per_s": rates,
        "p99_ms": p99,
        "sizes": sizes,
    }


async def load_curve(world: World, texts: Sequence[str], seconds: float) -> Row:
    """Row 8: latency of single requests at shares of the saturation rate, over a bare forward pass."""
    async with predicting(world) as predictor:
        await _warm(predictor, world, range(min(200, world.count)))

        def ask(at: int) -> Any:
            return predictor.predict(world.call(at % min(200, world.count), [texts[at % len(texts)]]))

        saturation = statistics.median([(await closed_loop(ask, requests=REQUESTS)).rate for _ in range(3)])
        curve = {}
        for share in (0.1, 0.25, 0.5, 0.7, 0.85):
            run = await open_loop(ask, rate=share * saturation, seconds=seconds)
            curve[share] = {"p50_ms": run.percentile(50), "p99_ms": run.percentile(99), "rate": run.rate}
        bare = await asyncio.to_thread(_bare_forward_ms, predictor, texts)
    return {
        "value": curve[0.5]["p99_ms"] / bare["packed"],
        "over_transformers": curve[0.5]["p99_ms"] / bare["transformers"],
        "saturation_per_s": saturation,
        "bare_forward_ms": bare,
        "curve": curve,
    }


async def fairness(world: World, texts: Sequence[str], seconds: float) -> Row:
    """One customer at 50 times its share: the others' p99 over their quiet p99."""
    async with predicting(world) as predictor:
        await _warm(predictor, world, range(51))

        def ask(at: int) -> Any:
            return predictor.predict(world.call(1 + at % 50, [texts[at % len(texts)]]))

        saturation = (await closed_loop(ask, requests=REQUESTS)).rate
        share = 0.5 * saturation / 50
        quiet = await open_loop(ask, rate=50 * share, seconds=seconds)

        async def flood(at: int) -> None:
            with contextlib.suppress(Exception):  # it is refused beyond its queue, as it should be
                await predictor.predict(world.call(0, [texts[at % len(texts)]]))

        others, _ = await asyncio.gather(
            open_loop(ask, rate=50 * share, seconds=seconds), open_loop(flood, rate=50 * share, seconds=seconds, seed=1)
        )
    return {
        "value": others.percentile(99) / quiet.percentile(99),
        "quiet_p99_ms": quiet.percentile(99),
        "flooded_p99_ms": others.percentile(99),
        "quiet_p50_ms": quiet.percentile(50),
        "flooded_p50_ms": others.percentile(50),
    }


async def evicted(folder: Path, texts: Sequence[str], count: int = 300) -> Row:
    """Row 5: the first request of a customer whose adapter is neither in memory nor on disk, from a local S3."""
    with _s3() as settings:
        world = await asyncio.to_thread(build, folder, load("auto"), count, **settings)
        one = 20_000
        async with predicting(world, adapter_memory_bytes=one, adapter_disk_bytes=1) as predictor:
            cold = await _one_by_one(predictor, world, texts, range(count))
        async with predicting(world, adapter_memory_bytes=one) as predictor:
            await _one_by_one(predictor, world, texts, range(count))
            disk = await _one_by_one(predictor, world, texts, range(count))
        async with predicting(world) as predictor:
            await _warm(predictor, world, range(count))
            warm = await _one_by_one(predictor, world, texts, range(count))
    p99 = {"store": cold[int(0.99 * count)], "disk": disk[int(0.99 * count)], "memory": warm[int(0.99 * count)]}
    p50 = {"store": cold[count // 2], "disk": disk[count // 2], "memory": warm[count // 2]}
    return {
        "value": p99["store"] / p99["memory"],
        "from_disk": p99["disk"] / p99["memory"],
        "p99_ms": p99,
        "p50_ms": p50,
    }


def usual_way(scratch: Path, texts: Sequence[str], rounds: int, pipelines: int = 8) -> Row:
    """Row 9: one Hugging Face pipeline per customer; measured on a few, the memory of each further one is the same."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    folder = registry.folder_of(registry.find(Settings(), "minilm"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    fresh = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=10)
    for number in range(pipelines):  # files of its own for each, as after a fine-tune: pages of one file are shared
        fresh.save_pretrained(scratch / str(number))
        tokenizer.save_pretrained(scratch / str(number))
    process = psutil.Process()
    before = process.memory_info().rss
    made = [pipeline("text-classification", model=str(scratch / str(number))) for number in range(pipelines)]
    for one in made:
        one(texts[0])
    grown = (process.memory_info().rss - before) / pipelines
    rates = []
    for _ in range(rounds):
        began = time.perf_counter()
        for at in range(200):
            made[at % pipelines](texts[at % len(texts)])
        rates.append(200 / (time.perf_counter() - began))
    return {"resident_bytes_each": grown, "requests_per_s": statistics.median(rates), "pipelines": pipelines}


async def beside_a_job(world: World, texts: Sequence[str], rounds: int, data: Path, scratch: Path) -> Row:
    """Row 10: closed-loop throughput while a job trains on this machine, over idle."""
    found: dict[str, list[float]] = {"idle": [], "training": []}
    async with predicting(world) as predictor:
        await _warm(predictor, world, range(min(200, world.count)))

        def ask(at: int) -> Any:
            return predictor.predict(world.call(at % min(200, world.count), [texts[at % len(texts)]]))

        await closed_loop(ask, requests=REQUESTS)
        for number in range(rounds):
            found["idle"].append((await closed_loop(ask, requests=REQUESTS)).rate)
            with _training(data, scratch / f"job-{number}"):
                await asyncio.sleep(8)  # past its imports, into the features and the fit
                found["training"].append((await closed_loop(ask, requests=REQUESTS)).rate)
    middle = {name: statistics.median(values) for name, values in found.items()}
    return {"value": middle["training"] / middle["idle"], "requests_per_s": middle, "rounds": found}


_JOB = """
import json, os, sys
from pathlib import Path
os.nice(10)  # as the worker's trainer
from models.backbones import loading, registry
from models.learning.request import DatasetSource, TrainRequest
from models.learning.training import train
from models.settings import Settings
data, out = Path(sys.argv[1]), Path(sys.argv[2])
backbone = loading.load(registry.find(Settings(), "minilm"))
columns = {"text": "text", "label": "label"}
for number in range(1_000):
    source = DatasetSource(data, "csv", columns, str(number))
    request = TrainRequest(source, "text-classification", out / str(number), seed=number)
    for event in train(request, backbone, stop=lambda: False):
        pass
"""


@contextlib.contextmanager
def _training(data: Path, out: Path) -> Iterator[None]:
    """Job after job, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", _JOB, str(data), str(out)], env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


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
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
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


async def _warm(predictor: Predictor, world: World, customers: range) -> None:
    await closed_loop(lambda at: predictor.predict(world.call(customers[at], ["warm up"])), requests=len(customers))


async def _one_by_one(predictor: Predictor, world: World, texts: Sequence[str], customers: range) -> list[float]:
    latencies = []
    for at in customers:
        began = time.perf_counter()
        await predictor.predict(world.call(at, [texts[at % len(texts)]]))
        latencies.append((time.perf_counter() - began) * 1e3)
    return sorted(latencies)


def _bare_forward_ms(predictor: Predictor, texts: Sequence[str]) -> dict[str, float]:
    """Median time of one text through the base alone: our encoder on one thread, and transformers' model."""
    backbone = predictor.engines()[0].backbone
    encoder = backbone.packed
    before = torch.get_num_threads()
    found: dict[str, list[float]] = {"packed": [], "transformers": []}
    for text in texts[:200]:
        tokens = backbone.tokenize([text])
        with torch.inference_mode():
            torch.set_num_threads(1)
            began = time.perf_counter()
            batch = encoder.pack(tokens)
            hidden, _ = encoder.run(batch, encoder.embed(batch), 0, backbone.blocks)
            pool(hidden, batch, "mean")
            found["packed"].append((time.perf_counter() - began) * 1e3)
            torch.set_num_threads(before)
            began = time.perf_counter()
            backbone.features(backbone.collate(tokens), [f"mean.{backbone.blocks}"])
            found["transformers"].append((time.perf_counter() - began) * 1e3)
    return {name: statistics.median(values[20:]) for name, values in found.items()}
