"""Bases that are detectors: RT-DETR and D-FINE with random weights, taught by their own losses."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models.artifacts.folder import read_artifact
from models.artifacts.parts import DetectorWeights
from models.backbones import loading
from models.backbones.detector import DetectorBackbone
from models.learning.contract.comparison import LiveVersion
from models.learning.contract.errors import Stopped, UnsupportedStrategy
from models.learning.contract.events import Finished, Progress, TrainEvent, VersionReady
from models.learning.contract.request import TrainRequest
from models.learning.detection import strategies
from models.learning.detection.families import PretrainedFamily
from models.learning.training import train
from tests.device import DEVICE
from tests.models.backbones import detector_checkpoints
from tests.models.learning.detection.conftest import DetectionRequest

MakeBase = Callable[[str], DetectorBackbone]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> MakeBase:
    """Make a base of an architecture, once each."""
    made: dict[str, Any] = {}

    def make(name: str) -> DetectorBackbone:
        if name not in made:
            entry = detector_checkpoints.write(tmp_path_factory.mktemp(name), name)
            made[name] = loading.load(entry, device=DEVICE, precision="fp32", threads=1)
        found: DetectorBackbone = made[name]
        return found

    return make


def _run(request: TrainRequest, backbone: Any) -> list[TrainEvent]:
    return list(train(request, backbone, stop=lambda: False))


def _versions(events: list[TrainEvent]) -> list[VersionReady]:
    return [event for event in events if isinstance(event, VersionReady)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rt_detr", "d_fine"])
def test_the_heads_are_trained_first_then_everything(
    base: MakeBase, detection_request: DetectionRequest, name: str
) -> None:
    """A version holds the parameters that trained, and no others; the base's stay as they are."""
    backbone = base(name)
    before = {key: tensor.clone() for key, tensor in backbone.network.state_dict().items()}
    events = _run(detection_request(n_epochs=1, train=range(14), strategy="full"), backbone)
    head, whole = _versions(events)
    assert (head.name, whole.name) == ("head", "full")
    assert whole.improves == (whole.metrics["score"] >= head.metrics["score"])
    own = [read_artifact(each.artifact_dir) for each in (head, whole)]
    heads, everything = (dict(each.require(DetectorWeights).state) for each in own)
    assert set(heads) == set(backbone.heads) < set(everything) == set(backbone.trainable)
    assert all("embed" in key or "head" in key for key in heads)
    assert heads["model.enc_score_head.weight"].shape[0] == 2
    changed = [key for key in set(everything) - set(heads) if not torch.equal(everything[key], before[key].cpu())]
    assert len(changed) > 0.7 * (len(everything) - len(heads))
    for key, tensor in backbone.network.state_dict().items():
        assert torch.equal(tensor, before[key]), key
    manifest = own[1].manifest
    assert manifest.details["detection"] == {"labels": 2, "canvas": [96, 96]}
    assert manifest.thresholds is not None


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["head", "full"])
def test_a_new_version_is_compared_with_the_live_one(
    base: MakeBase, detection_request: DetectionRequest, strategy: str
) -> None:
    """The live one is read from its own artifact, and finds what it found when it was trained."""
    live = _versions(_run(detection_request(n_epochs=8, strategy=strategy, name="live"), base("rt_detr")))[-1]
    request = detection_request(n_epochs=1, live=LiveVersion(3, live.artifact_dir))
    finished = _run(request, base("rt_detr"))[-1]
    compared = finished.comparison if isinstance(finished, Finished) else None
    assert compared is not None
    assert (compared.problem, compared.live_score) == ("", live.metrics["score"])


@pytest.mark.slow
@pytest.mark.parametrize("name", detector_checkpoints.NAMES)
def test_an_interrupted_fit_ends_with_the_same_bits(
    base: MakeBase,
    detection_request: DetectionRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
) -> None:
    """What the losses draw is the same after a kill, and on two threads."""
    monkeypatch.setattr("models.learning.detection.fit.CHECKPOINT_S", 0.0)
    backbone = base(name)
    whole = _versions(_run(detection_request(strategy="full"), backbone))
    cut = detection_request(name="cut", checkpoint_dir=tmp_path / "checkpoints", strategy="full")
    with pytest.raises(Stopped):
        _stop_while_refining(cut, backbone)
    monkeypatch.setattr(backbone, "threads", 2)
    again = _versions(_run(cut, backbone))
    assert [each.name for each in again] == [each.name for each in whole] == ["head", "full"]
    for one, other in zip(whole, again, strict=True):
        tensors = read_artifact(other.artifact_dir).tensors
        for key, tensor in read_artifact(one.artifact_dir).tensors.items():
            assert torch.equal(tensor, tensors[key]), key


@pytest.mark.slow
def test_shapes_are_found(base: MakeBase, detection_request: DetectionRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """From random weights, so at higher rates and longer than behind pretrained ones. Heads alone learn little."""
    monkeypatch.setattr(strategies, "_TUNED_EPOCHS", 120)
    monkeypatch.setattr(strategies, "_EPOCHS", 1)
    monkeypatch.setattr(strategies, "FIRST_VIEWS", 8)
    monkeypatch.setattr(strategies, "_MOST_EPOCHS", 1)
    numbers = replace(strategies.PRETRAINED, head_views=8, tuned_rate=2e-3, base_share=1.0)
    monkeypatch.setattr(PretrainedFamily, "numbers", numbers)
    events = _run(detection_request(n_epochs="auto", strategy="full"), base("rt_detr"))
    whole = _versions(events)[-1]
    losses = [
        each.metrics["train_loss"] for each in events if isinstance(each, Progress) and "box_loss" in each.metrics
    ]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    assert whole.metrics["score"] > 0.5


@pytest.mark.parametrize("strategy", ["partial", "lora"])
def test_strategies_that_a_detector_has_not_are_refused(
    base: MakeBase, detection_request: DetectionRequest, strategy: str
) -> None:
    with pytest.raises(UnsupportedStrategy, match="auto, head, full"):
        _run(detection_request(strategy=strategy), base("rt_detr"))


def _stop_while_refining(request: TrainRequest, backbone: Any) -> None:
    reached = threading.Event()
    for event in train(request, backbone, stop=reached.is_set):
        if isinstance(event, Progress) and (event.step, event.metrics.get("step")) == ("refining", 4):
            reached.set()
