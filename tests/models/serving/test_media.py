"""From an uploaded archive to a prediction, for pictures and sounds: services, learning and predictor as they are."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.artifacts.folder import read_artifact
from models.backbones import loading, registry
from models.backbones.errors import BaseModelUnreachable
from models.datasets.errors import InvalidMedia
from models.datasets.examples import Media
from models.learning.contract.events import VersionReady
from models.learning.contract.request import DatasetSource, Strategy, TrainRequest
from models.learning.training import train
from models.records.customers import Customer
from models.services import claims, files, jobs
from models.services.jobs import JobRequest
from models.services.resources import Resources
from models.serving.errors import InvalidInput
from models.serving.predictor import PredictCall
from models.settings import Settings
from tests.claiming import claim as claim_job
from tests.device import DEVICE
from tests.models.backbones import media_checkpoints
from tests.models.datasets.media_files import archive, picture, sound
from tests.models.learning import inference
from tests.models.serving.conftest import until


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    entries = {}
    for name, modality in (("vit", "image"), ("yamnet", "audio")):
        media_checkpoints.write(tmp_path / name, name)
        entries[name] = {"modality": modality, "source": {"folder": str(tmp_path / name)}, "licence": "none"}
    (tmp_path / "bases.json").write_text(json.dumps(entries))
    return settings.model_copy(update={"base_models_file": tmp_path / "bases.json", "precision": "fp32"})


def members(medium: str) -> dict[str, bytes]:
    """Bright and dark pictures, or shrill and dull sounds."""
    if medium == "image":
        return {
            f"{label}/{n}.png": picture("PNG", size=(8 if label == "coarse" else 48, 40), seed=n)
            for label in ("coarse", "fine")
            for n in range(8)
        }
    return {
        f"{label}/{n}.wav": sound(seconds=0.3, rate=rate, seed=n)
        for label, rate in (("low", 4_000), ("high", 16_000))
        for n in range(8)
    }


def trained(
    resources: Resources, customer: Customer, medium: str, folder: Path, strategy: Strategy = "head"
) -> tuple[Path, Any]:
    """Upload, submit, train and publish; the last artifact and the base."""
    upload = folder / f"{medium}s.zip"
    upload.write_bytes(archive(members(medium)))
    file = files.create(resources, customer.id, files.NewFile(upload, upload.name))
    job = jobs.submit(resources, customer.id, JobRequest(training_file=file.id, suffix=medium))
    assert (job.task, job.base_model) == (f"{medium}-classification", "vit" if medium == "image" else "yamnet")
    claim = claim_job(resources, job.id, "worker-of-the-tests")
    assert claim is not None
    entry = registry.find(resources.settings, job.base_model)
    backbone = loading.load(entry, device=DEVICE, precision="fp32", threads=1)
    source = DatasetSource(upload, file.profile["format"], file.profile["columns"])
    request = TrainRequest(source, job.task, folder / "out" / medium, base_model=entry.name, strategy=strategy)
    for event in train(request, backbone, stop=lambda: False):
        if isinstance(event, VersionReady):
            claims.publish(resources, claim, event, promote=True)
            last = event
    return last.artifact_dir, backbone


@pytest.mark.parametrize(
    ("medium", "strategy"),
    [("image", "head"), pytest.param("image", "partial", marks=pytest.mark.slow), ("audio", "head")],
)
def test_answers_are_those_of_learning(
    resources: Resources, customer: Callable[..., Customer], predicting: Any, tmp_path: Path, medium: str, strategy: Any
) -> None:
    acme = customer("acme")
    folder, backbone = trained(resources, acme, medium, tmp_path, strategy)
    name = f"{medium}@{1 if strategy == 'head' else 2}"  # the head is published first
    data = list(members(medium).values())[5:12]
    expected = inference.predict(read_artifact(folder), backbone, [Media("", item) for item in data], top_k=2)
    encoded = [base64.b64encode(item).decode() for item in data]
    forms: list[list[Any]] = [encoded, [{medium: text} for text in encoded], [Media("x", item) for item in data]]

    async def run() -> None:
        async with predicting() as predictor:
            for inputs in forms:
                answer = await predictor.predict(PredictCall(acme.id, acme.name, name, inputs, 2))
                assert answer.task == f"{medium}-classification"
                assert answer.usage["rows"] == len(data)
                for prediction, wanted in zip(answer.predictions, expected, strict=True):
                    assert prediction["label"] == wanted["label"]
                    assert prediction["score"] == pytest.approx(wanted["score"], abs=1e-4)

    asyncio.run(run())


def test_bad_inputs_are_named(
    resources: Resources, customer: Callable[..., Customer], predicting: Any, tmp_path: Path
) -> None:
    acme = customer("acme")
    trained(resources, acme, "image", tmp_path)
    good = base64.b64encode(picture()).decode()

    async def run() -> None:
        async with predicting() as predictor:
            for bad in ("%", good[:100], {"audio": good}, Media("a.gif", picture("GIF")), 7, None):
                with pytest.raises(InvalidMedia) as caught:
                    await predictor.predict(PredictCall(acme.id, acme.name, "image", [good, bad], 1))
                assert caught.value.param == "inputs[1]"
            with pytest.raises(InvalidInput, match="reads image"):
                await predictor.embed(["a text"], "vit")

    asyncio.run(run())


class SlowPicture(dict[str, str]):
    """A picture of JSON whose reading waits; `begun` counts how often it was begun."""

    def __init__(self, going_on: threading.Event) -> None:
        super().__init__(image=base64.b64encode(picture()).decode())
        self.begun, self._going_on = 0, going_on

    def __getitem__(self, key: str) -> str:
        self.begun += 1
        assert self._going_on.wait(60)
        return super().__getitem__(key)


def test_one_customers_slow_pictures_stop_nobody_else(
    resources: Resources, customer: Callable[..., Customer], predicting: Any, tmp_path: Path
) -> None:
    acme, zeta = customer("acme"), customer("zeta")
    for owner in (acme, zeta):
        (tmp_path / owner.name).mkdir()
        trained(resources, owner, "image", tmp_path / owner.name)
    going_on, asked = threading.Event(), 40  # more than the event loop has default threads
    pictures = [SlowPicture(going_on) for _ in range(2 * asked)]

    async def run() -> None:
        async with predicting() as predictor:

            def ask(owner: Customer, *inputs: Any) -> asyncio.Task[Any]:
                return asyncio.create_task(predictor.predict(PredictCall(owner.id, owner.name, "image", inputs, 1)))

            leaving, *waiting = [ask(acme, *pictures[at : at + 2]) for at in range(0, 2 * asked, 2)]
            try:
                await until(lambda: any(slow.begun for slow in pictures))
                leaving.cancel()  # its thread goes on
                async with asyncio.timeout(20):
                    assert await asyncio.to_thread(lambda: True)  # as usage is written
                    assert (await ask(zeta, base64.b64encode(picture()).decode())).predictions
                assert sum(slow.begun for slow in pictures) == 1  # one of a customer at a time
            finally:
                going_on.set()
            assert all(len(answer.predictions) == 2 for answer in await asyncio.gather(*waiting))

    asyncio.run(run())


def test_a_base_is_missing_before_the_job_exists(resources: Resources, customer: Any, tmp_path: Path) -> None:
    acme = customer("acme")
    upload = tmp_path / "images.zip"
    upload.write_bytes(archive(members("image")))
    file = files.create(resources, acme.id, files.NewFile(upload, upload.name))
    (tmp_path / "vit" / "model.safetensors").unlink()
    with pytest.raises(BaseModelUnreachable):
        jobs.submit(resources, acme.id, JobRequest(training_file=file.id))
    assert not jobs.list_page(resources, acme.id).data
