"""Rows that are about traffic in one process: many customers, load, a flood, a job beside."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from deploy.local import threads
from models.backbones import encoder as encoding
from models.backbones.text import TextBackbone
from models.serving.errors import QueueFull
from tests.benchmarks import public_data
from tests.benchmarks.serving_compute import bare_pass, synchronize
from tests.benchmarks.serving_load import (
    Ask,
    Run,
    closed_loop,
    median_p99,
    medians,
    open_loop,
    turns,
    uniform,
    zipf,
)
from tests.benchmarks.serving_memory import slope, warm_in_steps
from tests.benchmarks.serving_plan import Found, Plan
from tests.benchmarks.serving_world import World, asking, open_world, predicting

# Of the saturation rate.
LOADS = (0.2, 0.4, 0.5, 0.6, 0.8, 1.0, 1.2)
HALF = 0.5
NEIGHBOURS = 50
# More requests than any arm sends.
DRAWN = 100_000


def many_customers(plan: Plan) -> Found:
    """Row 2: closed loop over 10 customers, over more, over all of them, and with Zipf's popularity."""
    return asyncio.run(_many_customers(plan, open_world(plan.home, plan.customers)))


async def _many_customers(plan: Plan, world: World) -> Found:
    sizes = sorted({min(size, world.count) for size in (10, 100, 1_000, 10_000)})
    traffic = {f"{size} customers": uniform(size, DRAWN) for size in sizes}
    traffic["zipf"] = zipf(world.count, DRAWN)
    async with predicting(world) as predictor:
        resident = await warm_in_steps(predictor, world)
        arms = {name: asking(predictor, world, customers, plan.texts) for name, customers in traffic.items()}
        runs = await closed_loops(arms, plan)
        evictions, loads = predictor.cache.evictions, predictor.cache.loads
    rates = medians({name: [run.rate for run in found] for name, found in runs.items()})
    everybody = rates[f"{sizes[-1]} customers"]
    return {
        "value": everybody / rates[f"{sizes[0]} customers"],
        "uniform_over_zipf": everybody / rates["zipf"],
        "customers": world.count,
        "requests_per_s": rates,
        "p99_ms": {name: median_p99(found) for name, found in runs.items()},
        "sizes": sizes,
        "bytes_per_customer": slope(resident),
        "resident_by_customers": resident,
        "evictions": evictions,
        "loads": loads,
    }


async def closed_loops(arms: dict[str, Ask], plan: Plan) -> dict[str, list[Run]]:
    """Stretches of traffic, the arms in turn."""
    runs: dict[str, list[Run]] = {name: [] for name in arms}
    for ask in arms.values():
        await closed_loop(ask, seconds=plan.seconds / 4)
    for name in turns(arms, plan.rounds):
        # On with the traffic where it stopped: a stretch is shorter than the list of customers.
        asked = sum(len(run.latencies_ms) for run in runs[name])
        runs[name].append(await closed_loop(arms[name], seconds=plan.seconds, first=asked))
    return runs


def load_curve(plan: Plan) -> Found:
    """Row 8: latency of single requests at shares of the saturation rate, over a bare forward pass of one text."""
    return asyncio.run(_load_curve(plan, open_world(plan.home, plan.customers)))


async def _load_curve(plan: Plan, world: World) -> Found:
    runs: dict[str, list[Run]] = {str(load): [] for load in LOADS}
    bare: dict[str, list[float]] = {}
    async with predicting(world) as predictor:
        backbone = predictor.runners()[0].engine.backbone
        assert isinstance(backbone, TextBackbone)
        ask = asking(predictor, world, plan.few(), plan.texts)
        saturation = await _saturation(ask, plan)
        for number, load in enumerate(turns(runs, plan.rounds)):
            if number % len(LOADS) == 0:
                for name, milliseconds in _bare_forward_ms(backbone, plan.texts[:100]).items():
                    bare.setdefault(name, []).append(milliseconds)
            runs[load].append(await open_loop(ask, rate=float(load) * saturation, seconds=plan.seconds, seed=number))
    single = medians(bare)
    curve = {
        load: {
            "p50_ms": statistics.median(run.percentile(50) for run in found),
            "p99_ms": median_p99(found),
            "answered_per_s": statistics.median(run.rate for run in found),
            "rounds_p99_ms": [run.percentile(99) for run in found],
        }
        for load, found in runs.items()
    }
    half = curve[str(HALF)]
    return {
        "value": half["p99_ms"] / single["packed"],
        "p50_over_bare": half["p50_ms"] / single["packed"],
        "over_transformers": half["p99_ms"] / single["transformers"],
        "p99_ms": half["p99_ms"],
        "saturation_per_s": saturation,
        "bare_forward_ms": single,
        "curve": curve,
    }


async def _saturation(ask: Ask, plan: Plan) -> float:
    """Answers per second to 64 callers that never pause."""
    await closed_loop(ask, seconds=plan.seconds / 2)
    runs = [await closed_loop(ask, seconds=plan.seconds / 2) for _ in range(plan.rounds)]
    return statistics.median(run.rate for run in runs)


def _bare_forward_ms(backbone: TextBackbone, texts: Sequence[str]) -> dict[str, float]:
    """Median time of one text through the base alone: our encoder on one thread, and transformers' on all."""
    count = torch.get_num_threads()
    network = backbone.trainable_copy().to(backbone.dtype).eval().requires_grad_(False)
    found: dict[str, list[float]] = {"packed": [], "transformers": []}
    for text in texts:
        tokens = backbone.tokenize([text])
        collated = backbone.collate(tokens)
        with torch.inference_mode():
            torch.set_num_threads(1)
            began = time.perf_counter()
            bare_pass(backbone, tokens)
            found["packed"].append((time.perf_counter() - began) * 1e3)
            torch.set_num_threads(count)
            began = time.perf_counter()
            encoding.features(network, collated, [f"mean.{backbone.blocks}"])
            synchronize(backbone.device)
            found["transformers"].append((time.perf_counter() - began) * 1e3)
    return medians({name: values[len(values) // 10 :] for name, values in found.items()})


def fairness(plan: Plan) -> Found:
    """Row F: one customer at 50 times its share; the others' p99 over their quiet p99."""
    return asyncio.run(_fairness(plan, open_world(plan.home, plan.customers)))


async def _fairness(plan: Plan, world: World) -> Found:
    runs: dict[str, list[Run]] = {"quiet": [], "flooded": []}
    async with predicting(world) as predictor:
        others = asking(predictor, world, range(1, 1 + NEIGHBOURS), plan.texts)
        one = asking(predictor, world, [0], plan.texts)
        rate = 0.5 * await _saturation(others, plan)  # of the others together; a flood of as much is 50 shares
        refused = flooded = 0

        async def flood(at: int) -> None:
            nonlocal refused, flooded
            flooded += 1
            try:
                await one(at)
            except QueueFull:  # beyond its own queue, as it should be
                refused += 1

        for number, name in enumerate(turns(runs, plan.rounds)):
            traffic = [open_loop(others, rate=rate, seconds=plan.seconds, seed=number)]
            if name == "flooded":
                traffic.append(open_loop(flood, rate=rate, seconds=plan.seconds, seed=1_000 + number))
            runs[name].append((await asyncio.gather(*traffic))[0])
    p99 = {name: median_p99(found) for name, found in runs.items()}
    return {
        "value": p99["flooded"] / p99["quiet"],
        "p99_ms": p99,
        "p50_ms": {name: statistics.median(run.percentile(50) for run in found) for name, found in runs.items()},
        "others_per_s": rate,
        "flood": {"requests": flooded, "refused": refused},
    }


def beside_a_job(plan: Plan) -> Found:
    """Row 10: closed-loop throughput while a job trains on this machine, over idle."""
    return asyncio.run(_beside_a_job(plan, open_world(plan.home, plan.customers)))


async def _beside_a_job(plan: Plan, world: World) -> Found:
    data = public_data.write_csv(
        public_data.few_per_class(plan.train, 10, label_of=lambda row: row[1], seed=0), plan.folder / "train.csv"
    )
    async with predicting(world) as predictor:
        ask = asking(predictor, world, plan.few(), plan.texts)
        found: dict[str, list[Run]] = {"idle": [], "training": []}
        with _training(data, plan.folder / "jobs") as job:
            await closed_loop(ask, seconds=plan.seconds / 2)
            for name in turns(found, plan.rounds):
                # Stopped, it takes no processor time: idle and training alternate on one job after the other.
                job.send_signal(signal.SIGCONT if name == "training" else signal.SIGSTOP)
                await asyncio.sleep(0.5)
                found[name].append(await closed_loop(ask, seconds=plan.seconds))
    rates = {name: [run.rate for run in runs] for name, runs in found.items()}
    middle = medians(rates)
    return {
        "value": middle["training"] / middle["idle"],
        "requests_per_s": middle,
        "p99_ms": {name: median_p99(runs) for name, runs in found.items()},
        "rounds": rates,
    }


# What the worker's trainer does with a job, job after job; a line for every event.
_JOB = """
import os, sys
from pathlib import Path
from models.backbones import loading, registry
from models.learning.request import DatasetSource, TrainRequest
from models.learning.training import train
from models.settings import Settings
os.nice(Settings().trainer_niceness)
data, out = Path(sys.argv[1]), Path(sys.argv[2])
backbone = loading.load(registry.find(Settings(), "minilm"))
columns = {"text": "text", "label": "label"}
for number in range(1_000):
    source = DatasetSource(data, "csv", columns, str(number))
    request = TrainRequest(source, "text-classification", out / str(number), seed=number)
    for event in train(request, backbone, stop=lambda: False):
        print(event, flush=True)
"""


@contextlib.contextmanager
def _training(data: Path, out: Path) -> Iterator[subprocess.Popen[Any]]:
    """Job after job, in a process of its own with a worker's threads."""
    count = threads.share("worker", workers=1, threads=0)
    said = out.with_suffix(".log")
    with said.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _JOB, str(data), str(out)],
            env={**os.environ, **threads.environment(count)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 120
        while "Progress(" not in said.read_text() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        yield process
        if process.poll() is not None:
            raise RuntimeError("the job ended: " + said.read_text()[-2_000:])
    finally:
        process.kill()
        process.wait()
