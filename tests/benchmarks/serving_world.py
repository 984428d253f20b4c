"""Thousands of customers with a published head each, written in bulk, and traffic for them.

The rows and objects are those that training and publishing would have made; only the way there is shorter.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.backbones.text import TextBackbone
from models.learning import artifacts
from models.learning.artifacts import Artifact
from models.records.customers import Customer
from models.records.database import Database
from models.records.files import File
from models.records.jobs import Job
from models.records.versions import Alias, Model, ModelVersion
from models.services.queue import JobQueue
from models.services.resources import Resources
from models.serving.predictor import PredictCall, Predictor
from models.settings import Settings
from models.storage import open_store
from models.storage.keys import artifact_prefix

WIDTH = 384
CLASSES = 10


def lora_of(seed: int, *, rank: int = 8, blocks: int = 6) -> dict[str, torch.Tensor]:
    """Low-rank matrices on every linear layer of MiniLM."""
    draw = torch.Generator().manual_seed(seed)
    shapes = {
        "attention.self.query": (WIDTH, WIDTH),
        "attention.self.key": (WIDTH, WIDTH),
        "attention.self.value": (WIDTH, WIDTH),
        "attention.output.dense": (WIDTH, WIDTH),
        "intermediate.dense": (WIDTH, 4 * WIDTH),
        "output.dense": (4 * WIDTH, WIDTH),
    }
    return {
        f"lora.{block}.{module}.{side}": torch.randn(size, generator=draw) * 0.02
        for block in range(blocks)
        for module, (inputs, outputs) in shapes.items()
        for side, size in (("A", (rank, inputs)), ("B", (outputs, rank)))
    }


def head_artifact(
    backbone: TextBackbone, seed: int, *, classes: int = CLASSES, more: dict[str, torch.Tensor] | None = None
) -> Artifact:
    """A head on the last layer's mean."""
    draw = torch.Generator().manual_seed(seed)
    tensors = {
        "head.weight": torch.randn(classes, WIDTH, generator=draw),
        "head.bias": torch.randn(classes, generator=draw),
        **(more or {}),
    }
    return Artifact(
        task="text-classification",
        strategy="head",
        labels=tuple(f"label-{at}" for at in range(classes)),
        features=("mean.6",),
        base=backbone.entry.name,
        base_revision=backbone.revision,
        temperature=1.0,
        thresholds=None,
        tensors=tensors,
    )


@dataclass(frozen=True)
class World:
    """Customers 0 to count - 1, each with one live model called `tickets`."""

    resources: Resources
    count: int

    def call(self, number: int, texts: Sequence[str]) -> PredictCall:
        """A request of one of them."""
        return PredictCall(f"cus_{number}", f"customer-{number}", "tickets", texts)


def build(folder: Path, backbone: TextBackbone, count: int, **settings: Any) -> World:
    """Write `count` customers with everything that makes their models answer."""
    chosen = Settings(data_dir=folder, **settings)
    store = open_store(chosen)
    database = Database(chosen.resolved_database_url)
    database.migrate()
    now = time.time()
    scratch = folder / "scratch"
    for start in range(0, count, 500):
        rows: list[list[Any]] = []
        for number in range(start, min(start + 500, count)):
            sha256 = artifacts.write(head_artifact(backbone, number), scratch)
            prefix = artifact_prefix(f"cus_{number}", f"mod_{number}", f"ftjob-{number}", 1, "head")
            for name in (artifacts.WEIGHTS, artifacts.MANIFEST):
                store.put_bytes(prefix + name, (scratch / name).read_bytes())
            rows.append(_rows(number, prefix, sha256, now))
        with database.transaction() as session:
            for kind in zip(*rows, strict=True):  # parents first: the tables name each other, the classes do not
                session.add_all(kind)
                session.flush()
    return World(Resources(chosen, database, store, JobQueue(chosen.broker_url)), count)


def _rows(number: int, prefix: str, sha256: str, now: float) -> list[Any]:
    customer, model, job = f"cus_{number}", f"mod_{number}", f"ftjob-{number}"
    return [
        Customer(id=customer, name=f"customer-{number}", meta={}, created_at=now),
        File(
            id=f"file-{number}",
            customer_id=customer,
            filename="data.csv",
            purpose="fine-tune",
            bytes=1,
            sha256="0" * 64,
            object_key="none",
            profile={},
            created_at=now,
        ),
        Model(
            id=model,
            customer_id=customer,
            name="tickets",
            base_model="minilm",
            full_name=f"ft:minilm:customer-{number}:tickets",
            task="text-classification",
            created_at=now,
        ),
        Job(
            id=job,
            customer_id=customer,
            model_id=model,
            training_file_id=f"file-{number}",
            base_model="minilm",
            suffix="tickets",
            task="text-classification",
            strategy="head",
            seed=0,
            hyperparameters={},
            status="succeeded",
            created_at=now,
        ),
        ModelVersion(
            id=f"ftckpt-{number}",
            model_id=model,
            job_id=job,
            number=1,
            candidate="head",
            artifact_prefix=prefix,
            manifest_sha256=sha256,
            bytes=1,
            metrics={},
            report={},
            created_at=now,
        ),
        Alias(model_id=model, name="live", number=1, updated_at=now),
    ]


@asynccontextmanager
async def predicting(world: World, **changes: Any) -> AsyncIterator[Predictor]:
    """A predictor over a world."""
    predictor = Predictor(world.resources.settings.model_copy(update=changes), world.resources)
    try:
        await predictor.start()
        yield predictor
    finally:
        await predictor.close()


@dataclass(frozen=True)
class Run:
    """What one stretch of traffic showed."""

    rate: float  # answers per second
    latencies_ms: NDArray[np.float64]

    def percentile(self, share: float) -> float:
        """A latency in milliseconds."""
        return float(np.percentile(self.latencies_ms, share))


async def closed_loop(ask: Callable[[int], Any], *, requests: int, connections: int = 64) -> Run:
    """`connections` callers, each with one request at a time, until `requests` are answered."""
    latencies: list[float] = []
    numbers = iter(range(requests))

    async def caller() -> None:
        for number in numbers:
            began = time.perf_counter()
            await ask(number)
            latencies.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(connections)))
    return Run(requests / (time.perf_counter() - began), np.array(latencies) * 1e3)


async def open_loop(ask: Callable[[int], Any], *, rate: float, seconds: float, seed: int = 0) -> Run:
    """Requests at random times (Poisson), whether or not the earlier ones were answered."""
    draw = random.Random(seed)
    latencies: list[float] = []
    pending: list[asyncio.Task[None]] = []

    async def one(number: int, due: float) -> None:
        await ask(number)
        latencies.append(time.perf_counter() - due)  # from when it was due: a late start counts

    began = due = time.perf_counter()
    number = 0
    while due < began + seconds:
        due += draw.expovariate(rate)
        delay = due - time.perf_counter()
        # Below a millisecond the event loop's own clock is the limit: let others run and go on.
        await asyncio.sleep(delay if delay > 0.001 else 0)
        pending.append(asyncio.create_task(one(number, max(due, began))))
        number += 1
    await asyncio.gather(*pending)
    return Run(number / (time.perf_counter() - began), np.array(latencies) * 1e3)


def zipf(count: int, size: int, *, exponent: float = 1.1, seed: int = 0) -> list[int]:
    """`size` customers, the k-th most popular with weight k^-exponent."""
    weights = np.arange(1, count + 1) ** -exponent
    chosen: list[int] = np.random.default_rng(seed).choice(count, size=size, p=weights / weights.sum()).tolist()
    return chosen
