"""A learner of another kind is served by new files and one line per table."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from models.artifacts.folder import Artifact, write_artifact
from models.artifacts.manifest import Manifest
from models.backbones import loading, registry
from models.backbones.backbone import Backbone
from models.errors import GraftError
from models.learning.contract.events import VersionReady
from models.records.customers import Customer
from models.records.versions import ModelVersion
from models.services import claims, customers, files, jobs
from models.services.jobs import JobRequest
from models.services.resources import Resources
from models.serving.errors import InvalidInput
from models.serving.predictor import PredictCall, Predictor
from models.settings import Settings
from tests.claiming import claim as claim_job
from tests.models.neighbours.rows import NeighbourRows
from tests.models.neighbours.task import NEAREST_ROW
from tests.models.serving.conftest import make_artifact, until

ROWS = {
    "acme": [
        ("Where is my card?", "card"),
        ("My card has not come yet", "card"),
        ("I cannot log in", "login"),
        ("Log in fails with my password", "login"),
    ],
    "zeta": [
        ("The soup was cold", "food"),
        ("The soup was too salty", "food"),
        ("Nobody came to our table", "service"),
        ("We waited an hour at the table", "service"),
    ],
}


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    return loading.load(registry.find(Settings(), "minilm"), device="cpu", precision="fp32", threads=1)


@asynccontextmanager
async def predicting(settings: Settings, resources: Resources) -> AsyncIterator[Predictor]:
    changes = {"precision": "fp32", "device": "cpu", "directory_poll_s": 0.05}
    predictor = Predictor(settings.model_copy(update=changes), resources)
    try:
        await predictor.start()
        yield predictor
    finally:
        await predictor.close()


def publish(
    resources: Resources, customer: Customer, folder: Path, *, model: str, task: str, artifact: Artifact
) -> ModelVersion:
    """A version of a model with this artifact, promoted."""
    folder.mkdir()
    data = folder / "upload.csv"
    data.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in ROWS["acme"]))
    file = files.create(resources, customer.id, files.NewFile(data, "rows.csv", task=task))
    job = jobs.submit(resources, customer.id, JobRequest(training_file=file.id, suffix=model))
    claim = claim_job(resources, job.id, "worker-of-the-tests")
    assert claim is not None
    write_artifact(artifact, folder / "version")
    version = VersionReady("only", folder / "version", {"score": 0.9}, {}, improves=True)
    return claims.publish(resources, claim, version, promote=True)


def neighbours(backbone: Backbone, rows: list[tuple[str, str]]) -> Artifact:
    """What the toy learner writes."""
    texts, labels = [text for text, _ in rows], sorted({label for _, label in rows})
    ids = [found.tolist() for found in backbone.tokenize(texts)]
    part = NeighbourRows.of(ids, texts, [labels.index(label) for _, label in rows])
    manifest = Manifest(
        NEAREST_ROW.name, "neighbours", tuple(labels), (), backbone.entry.name, backbone.revision, thresholds=None
    )
    return Artifact(manifest, (part,))


@pytest.mark.slow
@pytest.mark.usefixtures("tables")
def test_neighbours_are_served_beside_encoders_by_one_predictor(
    customer: Callable[..., Customer], resources: Resources, settings: Settings, backbone: Any, tmp_path: Path
) -> None:
    owners = {name: customer(name) for name in ROWS}
    for name, owner in owners.items():
        artifact = neighbours(backbone, ROWS[name])
        publish(resources, owner, tmp_path / name, model="near", task=NEAREST_ROW.name, artifact=artifact)
    publish(
        resources,
        owners["acme"],
        tmp_path / "head",
        model="head",
        task="text-classification",
        artifact=make_artifact(backbone),
    )

    def call(name: str, inputs: list[Any], model: str = "near") -> PredictCall:
        return PredictCall(owners[name].id, name, model, inputs)

    async def run() -> None:
        async with predicting(settings, resources) as predictor:
            asked = [
                predictor.predict(call("acme", ["where is the card", "I cannot log in"])),
                predictor.predict(call("zeta", ["the soup was cold!"])),
                predictor.predict(call("acme", ["where is the card"], "head")),
            ]
            acme, zeta, head = await asyncio.gather(*asked)
            assert [row["row"] for row in acme.predictions] == ["Where is my card?", "I cannot log in"]
            assert acme.predictions[1] == {"label": "login", "row": "I cannot log in", "similarity": 1.0}
            assert (acme.task, acme.usage["rows"]) == (NEAREST_ROW.name, 2)
            assert zeta.predictions[0]["label"] == "food"
            assert set(head.predictions[0]) == {"label", "score", "top"}
            # One cache for the adapters of both runners, both on one base that was loaded once.
            assert len(predictor.cache) == 3
            assert len(predictor.runners()) == 2
            with pytest.raises(InvalidInput) as caught:
                await predictor.predict(call("acme", ["where is the card", 3]))
            assert caught.value.param == "inputs[1]"
            await asyncio.to_thread(customers.delete, resources, owners["zeta"].id)
            await until(lambda: len(predictor.cache) == 2)
            with pytest.raises(GraftError):
                await predictor.predict(call("zeta", ["the soup was cold!"]))

    asyncio.run(run())
