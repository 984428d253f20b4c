"""Customers with published models: real services, a real base, artifacts as learning writes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from models.artifacts.folder import Artifact, write_artifact
from models.artifacts.manifest import Manifest
from models.artifacts.parts import unpack
from models.backbones import loading, registry
from models.backbones.text import TextBackbone
from models.learning.contract.events import VersionReady
from models.records.customers import Customer
from models.records.jobs import Job
from models.records.versions import ModelVersion
from models.services import claims, files, jobs, keys
from models.services.jobs import JobRequest
from models.services.resources import Resources
from models.serving.adapters.disk_cache import ArtifactDiskCache
from models.serving.predictor import PredictCall, Predictor
from models.settings import Settings
from tests.claiming import claim as claim_job
from tests.device import DEVICE
from tests.models.backbones import text_checkpoints

# Of the small base.
WIDTH = 48
INNER = 2 * WIDTH
TEXTS = [
    "Where is my card?",
    "I was charged twice for the same payment last Tuesday, and nobody answers my mails about it.",
    "Passwort vergessen",
    "?",
    "How do I top up?",
    "The quick brown fox jumps over the lazy dog while forty two others look on from the far side of the hill.",
    "Refund please",
    "My transfer to a friend in another country has been pending for three days now",
]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"precision": "fp32", "directory_poll_s": 0.05})


@pytest.fixture(scope="session")
def minilm() -> TextBackbone:
    entry = registry.find(Settings(), "minilm")
    return loading.load(entry, device=DEVICE, precision="fp32", threads=1)


@pytest.fixture(scope="session")
def small_backbone(tmp_path_factory: pytest.TempPathFactory) -> TextBackbone:
    """A base with random weights, for ways through the blocks: they are those of any BERT."""
    entry = text_checkpoints.write(tmp_path_factory.mktemp("small"), width=WIDTH, blocks=6)
    return loading.load(entry, device=DEVICE, precision="fp32", threads=1)


@pytest.fixture(scope="session")
def backbone(minilm: TextBackbone) -> TextBackbone:
    return minilm


def make_artifact(
    backbone: TextBackbone,
    *,
    labels: Sequence[str] = ("billing", "card", "login"),
    task: str = "text-classification",
    features: Sequence[str] = ("mean.6",),
    seed: int = 0,
    temperature: float = 1.0,
    thresholds: Sequence[float] | None = None,
    more: Mapping[str, torch.Tensor] | None = None,
) -> Artifact:
    """An artifact with a random head, and whatever `more` holds."""
    random = torch.Generator().manual_seed(seed)
    tensors = {
        "head.weight": torch.randn(len(labels), len(features) * backbone.width, generator=random),
        "head.bias": torch.randn(len(labels), generator=random),
        **(more or {}),
    }
    manifest = Manifest(
        task=task,
        strategy="head",
        labels=tuple(labels),
        features=tuple(features),
        base=backbone.entry.name,
        base_revision=backbone.revision,
        temperature=temperature,
        thresholds=None if thresholds is None else tuple(thresholds),
    )
    return Artifact(manifest, unpack(tensors))


def lora_tensors(seed: int, *, rank: int = 8, modules: Sequence[str] | None = None) -> dict[str, torch.Tensor]:
    """Random low-rank matrices on every linear layer of the small base, large enough to change the answers."""
    random = torch.Generator().manual_seed(seed)
    shapes = {
        "attention.self.query": (WIDTH, WIDTH),
        "attention.self.key": (WIDTH, WIDTH),
        "attention.self.value": (WIDTH, WIDTH),
        "attention.output.dense": (WIDTH, WIDTH),
        "intermediate.dense": (WIDTH, INNER),
        "output.dense": (INNER, WIDTH),
    }
    tensors = {}
    for block in range(6):
        for module in modules or shapes:
            inputs, outputs = shapes[module]
            tensors[f"lora.{block}.{module}.A"] = torch.randn(rank, inputs, generator=random) / inputs**0.5
            tensors[f"lora.{block}.{module}.B"] = torch.randn(outputs, rank, generator=random) * 0.05
    return tensors


def _submit(resources: Resources, customer: Customer, model: str, folder: Path) -> Job:
    rows = [("where is my card", "card"), ("i cannot log in", "login"), ("charged twice", "billing")] * 4
    data = folder / "upload.csv"
    data.write_text("text,label\n" + "".join(f"{text} {at},{label}\n" for at, (text, label) in enumerate(rows)))
    file = files.create(resources, customer.id, files.NewFile(data, "data.csv"))
    return jobs.submit(resources, customer.id, JobRequest(training_file=file.id, suffix=model))


@pytest.fixture
def unpublished(resources: Resources, tmp_path: Path) -> Callable[[Customer], str]:
    """A model whose job has published nothing yet; the job's id."""
    return lambda customer: _submit(resources, customer, "tickets", tmp_path).id


@pytest.fixture
def publish(resources: Resources, tmp_path: Path, minilm: TextBackbone) -> Callable[..., ModelVersion]:
    """`publish(customer, "tickets", seed=1, …)`: a further version of a model, promoted."""

    def make(
        customer: Customer, model: str = "tickets", *, folder: Path | None = None, **artifact: Any
    ) -> ModelVersion:
        job = _submit(resources, customer, model, tmp_path)
        claim = claim_job(resources, job.id, "worker-of-the-tests")
        assert claim is not None
        if folder is None:
            folder = tmp_path / job.id
            write_artifact(make_artifact(minilm, **artifact), folder)
        candidate = VersionReady(name="head", artifact_dir=folder, metrics={"score": 0.9}, report={}, improves=True)
        return claims.publish(resources, claim, candidate, promote=True)

    return make


@pytest.fixture
def predicting(settings: Settings, resources: Resources) -> Callable[..., Any]:
    """`async with predicting() as predictor`."""

    @asynccontextmanager
    async def start(*, artifacts: ArtifactDiskCache | None = None, **changes: Any) -> AsyncIterator[Predictor]:
        predictor = Predictor(settings.model_copy(update=changes), resources, artifacts)
        try:
            await predictor.start()
            yield predictor
        finally:
            await predictor.close()

    return start


@pytest.fixture
def secret(resources: Resources) -> Callable[[Customer], str]:
    return lambda customer: keys.issue(resources, customer.id, name="test").secret


def call(
    customer: Customer, model: str = "tickets", inputs: Sequence[Any] = TEXTS, top_k: int | None = 3
) -> PredictCall:
    return PredictCall(customer.id, customer.name, model, list(inputs), top_k)


async def until(condition: Callable[[], Any], *, seconds: float = 20.0) -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
