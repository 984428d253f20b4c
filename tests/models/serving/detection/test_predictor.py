"""From an uploaded archive of pictures with boxes to a prediction: services, learning and predictor as they are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.backbones import loading, registry
from models.datasets.errors import InvalidMedia
from models.datasets.examples import Media
from models.learning.contract.events import VersionReady
from models.learning.contract.request import DatasetSource, Hyperparameters, TrainRequest
from models.learning.detection import canvas, families
from models.learning.training import train
from models.records.customers import Customer
from models.services import claims, files, jobs
from models.services.jobs import JobRequest
from models.services.resources import Resources
from models.serving.predictor import PredictCall
from models.settings import Settings
from tests.claiming import claim as claim_job
from tests.device import DEVICE
from tests.models.backbones import detector_checkpoints, media_checkpoints
from tests.models.datasets.media_files import archive
from tests.models.learning.detection import shapes


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    media_checkpoints.write(tmp_path / "resnet", "resnet")
    detector_checkpoints.write(tmp_path / "rt_detr", "rt_detr", initializer_bias_prior_prob=0.2)  # boxes at once
    entries = {
        name: {"modality": "image", "kind": kind, "source": {"folder": str(tmp_path / name)}, "licence": "none"}
        for name, kind in (("rt_detr", "detector"), ("resnet", "encoder"))
    }
    (tmp_path / "bases.json").write_text(json.dumps(entries))
    # It trains in this process, without a heartbeat.
    changes = {"base_models_file": tmp_path / "bases.json", "precision": "fp32", "lease_s": 600.0}
    return settings.model_copy(update=changes)


def _trained(resources: Resources, customer: Customer, folder: Path, base: str) -> None:
    upload = folder / "shapes.zip"
    upload.write_bytes(archive(shapes.members(range(14))))
    file = files.create(resources, customer.id, files.NewFile(upload, upload.name))
    job = jobs.submit(
        resources,
        customer.id,
        JobRequest(training_file=file.id, suffix="shapes", model=None if base == "resnet" else base),
    )
    assert (job.task, job.base_model) == ("object-detection", base)
    claim = claim_job(resources, job.id, "worker-of-the-tests")
    assert claim is not None
    entry = registry.find(resources.settings, job.base_model)
    backbone = loading.load(entry, device=DEVICE, precision="fp32", threads=1)
    source = DatasetSource(upload, file.profile["format"], file.profile["columns"])
    request = TrainRequest(
        source, job.task, folder / "out", base_model=entry.name, strategy="head",
        hyperparameters=Hyperparameters(n_epochs=2),
    )  # fmt: skip
    for event in train(request, backbone, stop=lambda: False):
        if isinstance(event, VersionReady):
            claims.publish(resources, claim, event, promote=True)


@pytest.mark.parametrize("base", ["resnet", pytest.param("rt_detr", marks=pytest.mark.slow)])
def test_boxes_are_answered(
    base: str,
    resources: Resources,
    customer: Callable[..., Customer],
    predicting: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(canvas, "SIDES", (96,))
    monkeypatch.setattr(families, "CHANNELS", 32)
    acme = customer("acme")
    _trained(resources, acme, tmp_path, base)
    pictures = [Media("x.png", shapes.picture(seed)[0]) for seed in (3, 6)]

    async def run() -> None:
        async with predicting() as predictor:

            async def ask(**options: Any) -> list[list[dict[str, Any]]]:
                call = PredictCall(acme.id, acme.name, "shapes", pictures, **options)
                answer = await predictor.predict(call)
                assert answer.task == "object-detection"
                assert answer.usage["rows"] == 2
                return [prediction["boxes"] for prediction in answer.predictions]

            every = await ask(min_score=0.0)
            own, few = await ask(), await ask(min_score=0.0, top_k=2)
            strict = await ask(min_score=1.0)
            for boxes, some, sure in zip(every, few, own, strict=True):
                scores = [box["score"] for box in boxes]
                assert scores == sorted(scores, reverse=True)
                assert len(boxes) > 2
                assert some == boxes[:2]
                assert sure == boxes[: len(sure)]
                for box in boxes:
                    edges = box["box"]
                    assert box["label"] in {"disc", "square"}
                    assert 0 <= edges["left"] < edges["right"] <= shapes.SIZE[0]
                    assert 0 <= edges["top"] < edges["bottom"] <= shapes.SIZE[1]
            assert strict == [[], []]
            with pytest.raises(InvalidMedia) as caught:
                await predictor.predict(PredictCall(acme.id, acme.name, "shapes", [pictures[0], "%"]))
            assert caught.value.param == "inputs[1]"

    asyncio.run(run())
