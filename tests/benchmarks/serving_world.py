"""Thousands of customers with a published head each, written in bulk, and a predictor over them.

The objects go to the store as publishing takes them there; the rows are those that submitting, training and publishing
would have made, but many to a transaction.
"""

from __future__ import annotations

import gc
import random
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models.artifacts.folder import Artifact, write_artifact
from models.artifacts.manifest import Manifest
from models.artifacts.parts import unpack
from models.backbones.text import TextBackbone
from models.learning.contract.events import VersionReady
from models.records.customers import Customer
from models.records.files import File
from models.records.jobs import Job
from models.records.keys import ApiKey
from models.records.versions import LIVE, Alias, Model, ModelVersion
from models.services.access.scopes import SCOPES
from models.services.artifacts import StoredArtifact, upload
from models.services.keys import hash_secret
from models.services.resources import Resources, open_resources
from models.serving.predictor import PredictCall, Predictor
from models.settings import Settings
from tests.benchmarks.serving_load import Ask

WIDTH = 384
MODEL = "tickets"
# Uploads wait for the disk, not for the processor.
WRITERS = 16
CHUNK = 1_000


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
    backbone: TextBackbone, seed: int, *, classes: int, more: dict[str, torch.Tensor] | None = None
) -> Artifact:
    """A head on the last layer's mean."""
    draw = torch.Generator().manual_seed(seed)
    tensors = {
        "head.weight": torch.randn(classes, WIDTH, generator=draw),
        "head.bias": torch.randn(classes, generator=draw),
        **(more or {}),
    }
    manifest = Manifest(
        task="text-classification",
        strategy="head",
        labels=tuple(f"label-{at}" for at in range(classes)),
        features=("mean.6",),
        base=backbone.entry.name,
        base_revision=backbone.revision,
    )
    return Artifact(manifest, unpack(tensors))


def classes_of(number: int) -> int:
    """5 to 77 classes, many customers with few and few with many (uniform in the logarithm)."""
    return round(5 * (77 / 5) ** random.Random(number).random())


@dataclass(frozen=True)
class World:
    """Customers 0 to count - 1, each with one key and one live model."""

    resources: Resources
    count: int

    def call(self, number: int, texts: Sequence[str]) -> PredictCall:
        """A request of one of them."""
        return PredictCall(f"cus_{number}", f"customer-{number}", MODEL, texts)


def secret_of(number: int) -> str:
    """The API key of one of them."""
    return f"gr-bench-{number}"


def settings_of(home: Path, **settings: Any) -> Settings:
    """Those of a world in a folder."""
    return Settings(data_dir=home, **settings)


def open_world(home: Path, count: int, **settings: Any) -> World:
    """A world that was built in this folder."""
    return World(open_resources(settings_of(home, **settings)), count)


def build(
    home: Path, backbone: TextBackbone, count: int, *, classes: Callable[[int], int] = classes_of, **settings: Any
) -> World:
    """Write `count` customers with everything that makes their models answer."""
    world = open_world(home, count, **settings)
    database = world.resources.database
    database.migrate()
    now = time.time()

    def publish(number: int) -> list[Any]:
        rows = _rows(number, now)
        model, job = (next(row for row in rows if isinstance(row, kind)) for kind in (Model, Job))
        scratch = home / "scratch" / str(number)
        write_artifact(head_artifact(backbone, number, classes=classes(number)), scratch)
        candidate = VersionReady("head", scratch, metrics={}, report={}, improves=True)
        stored = upload(world.resources.store, model, job.id, 1, candidate)
        shutil.rmtree(scratch)
        return [*rows, *_version(model, job, stored, now)]

    with ThreadPoolExecutor(WRITERS) as writers:
        for start in range(0, count, CHUNK):
            made = list(writers.map(publish, range(start, min(start + CHUNK, count))))
            with database.transaction() as session:
                for kind in zip(*made, strict=True):  # parents first: the tables name each other, the classes do not
                    session.add_all(kind)
                    session.flush()
    return world


def _rows(number: int, now: float) -> list[Any]:
    customer, secret = f"cus_{number}", secret_of(number)
    owned = {"customer_id": customer, "created_at": now}
    trained = {"base_model": "minilm", "task": "text-classification"}
    return [
        Customer(id=customer, name=f"customer-{number}", meta={}, created_at=now),
        ApiKey(
            id=f"key_{number}",
            name="bench",
            prefix=secret[:10],
            hash=hash_secret(secret),
            scopes=sorted(SCOPES),
            **owned,
        ),
        File(
            id=f"file-{number}",
            filename="data.csv",
            purpose="fine-tune",
            bytes=1,
            sha256="0" * 64,
            object_key="none",
            profile={},
            **owned,
        ),
        Model(id=f"mod_{number}", name=MODEL, full_name=f"ft:minilm:customer-{number}:{MODEL}", **trained, **owned),
        Job(
            id=f"ftjob-{number}",
            model_id=f"mod_{number}",
            training_file_id=f"file-{number}",
            suffix=MODEL,
            strategy="head",
            seed=0,
            hyperparameters={},
            status="succeeded",
            **trained,
            **owned,
        ),
    ]


def _version(model: Model, job: Job, stored: StoredArtifact, now: float) -> list[Any]:
    return [
        ModelVersion(
            id=stored.version_id,
            model_id=model.id,
            job_id=job.id,
            number=1,
            candidate="head",
            artifact_prefix=stored.prefix,
            manifest_sha256=stored.manifest_sha256,
            bytes=stored.bytes,
            metrics={},
            report={},
            created_at=now,
        ),
        Alias(model_id=model.id, name=LIVE, number=1, updated_at=now),
    ]


@asynccontextmanager
async def predicting(world: World, **changes: Any) -> AsyncIterator[Predictor]:
    """A predictor over a world, with some settings changed."""
    predictor = Predictor(world.resources.settings.model_copy(update=changes), world.resources)
    try:
        await predictor.start()
        gc.collect()
        gc.freeze()  # as the API does
        yield predictor
    finally:
        await predictor.close()


def asking(predictor: Predictor, world: World, customers: Sequence[int], texts: Sequence[str]) -> Ask:
    """Request number `at` is of the customer and with the text of that number, over and over."""

    def ask(at: int) -> Any:
        return predictor.predict(world.call(customers[at % len(customers)], [texts[at % len(texts)]]))

    return ask
