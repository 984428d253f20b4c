"""The same run for pictures and sounds: from an archive to an artifact that answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.artifacts.folder import read_artifact
from models.backbones import loading
from models.backbones.backbone import Backbone
from models.datasets.examples import Media
from models.datasets.reading import read
from models.datasets.validation import Limits, inspect
from models.learning.contract.events import Finished, VersionReady
from models.learning.contract.request import DatasetSource, Hyperparameters, Strategy, TrainRequest
from models.learning.training import train
from tests.device import DEVICE
from tests.models.backbones import media_checkpoints
from tests.models.datasets.media_files import archive, sound, stripes
from tests.models.learning import inference


def source(path: Path, members: dict[str, bytes]) -> DatasetSource:
    path.write_bytes(archive(members))
    found = inspect(path, filename=path.name, limits=Limits())
    return DatasetSource(path, found.format, found.columns)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> DatasetSource:
    members = {f"{label}/{n}.png": stripes(label, n) for label in ("wide", "narrow") for n in range(30)}
    return source(tmp_path_factory.mktemp("pictures") / "stripes.zip", members)


@pytest.fixture(scope="module")
def eyes(tmp_path_factory) -> Backbone:
    entry = media_checkpoints.write(tmp_path_factory.mktemp("eyes"), "vit")
    return loading.load(entry, device=DEVICE, precision="fp32", threads=1)


def run(request: TrainRequest, backbone: Backbone) -> tuple[list[VersionReady], Finished]:
    events = list(train(request, backbone, stop=lambda: False))
    assert isinstance(events[-1], Finished)
    return [event for event in events if isinstance(event, VersionReady)], events[-1]


_SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("lora", "full")]


@pytest.mark.parametrize("strategy", ["head", "zero-shot", "partial", *_SLOW])
def test_every_strategy_on_pictures(tmp_path, pictures, eyes, strategy: Strategy):
    request = TrainRequest(
        training=pictures, task="image-classification", output_dir=tmp_path, strategy=strategy,
        hyperparameters=Hyperparameters(n_epochs=1), feature_cache_dir=tmp_path / "cache",
    )  # fmt: skip
    candidates, finished = run(request, eyes)
    assert finished.report["task"] == "image-classification"
    assert finished.report["data"]["labels"] == {"narrow": 30, "wide": 30}
    assert "label_names" not in finished.report["baseline"]  # a base that does not read cannot use them
    assert candidates[-1].name == strategy if strategy not in ("head", "zero-shot") else finished.best == strategy
    examples = list(read(pictures.path, format="zip", task="image-classification", columns=pictures.columns))
    for candidate in candidates:
        artifact = read_artifact(candidate.artifact_dir)
        answers = inference.predict(artifact, eyes, [example.input for example in examples])
        right = np.mean([answer["label"] == example.target for answer, example in zip(answers, examples, strict=True)])
        assert right >= (0.5 if candidate.name == "zero-shot" else 0.8)


def test_a_head_on_sounds(tmp_path):
    members = {
        f"{label}/{n}.wav": sound(seconds=0.3, rate=rate, seed=n)
        for label, rate in (("low", 4_000), ("high", 16_000))
        for n in range(12)
    }
    entry = media_checkpoints.write(tmp_path / "ears", "yamnet")
    ears = loading.load(entry, device=DEVICE, precision="fp32", threads=1)
    request = TrainRequest(
        training=source(tmp_path / "sounds.zip", members), task="audio-classification", output_dir=tmp_path / "out",
        strategy="head",
    )  # fmt: skip
    _, finished = run(request, ears)
    assert finished.report["score"] > 0.9
    answers = inference.predict(
        read_artifact(tmp_path / "out" / "head"), ears, [Media("", sound(seconds=0.3, rate=4_000, seed=99))]
    )
    assert answers[0]["label"] == "low"


def test_cached_features_are_those_of_the_pictures(tmp_path, pictures, eyes):
    torch.manual_seed(0)
    request = TrainRequest(
        training=pictures, task="image-classification", output_dir=tmp_path / "a", strategy="head",
        feature_cache_dir=tmp_path / "cache",
    )  # fmt: skip
    _, first = run(request, eyes)
    stamp = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert stamp
    _, again = run(request, eyes)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()} == stamp
    assert again.report["score"] == first.report["score"]
