from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from models.artifacts.folder import read_artifact
from models.artifacts.parts import BlockWeights, DetectorWeights, EmbeddingWeights
from models.backbones import loading, maps
from models.backbones.backbone import Backbone
from models.datasets.validation import Limits, inspect
from models.learning.contract.comparison import LiveVersion
from models.learning.contract.errors import NoMaps, Stopped, UnsupportedStrategy
from models.learning.contract.events import Finished, Progress, TrainEvent, VersionReady
from models.learning.contract.request import DatasetSource, TrainRequest
from models.learning.data.corpus import read_training
from models.learning.data.groups import Groups
from models.learning.detection import material as materials
from models.learning.detection import strategies
from models.learning.detection.network import Detector, Layout
from models.learning.report import ReportBuilder
from models.learning.run import Run
from models.learning.tasks import find
from models.learning.training import train
from tests.device import DEVICE
from tests.models.backbones import media_checkpoints
from tests.models.datasets.media_files import archive
from tests.models.learning.detection import shapes
from tests.models.learning.detection.conftest import DetectionRequest


def _run(request: TrainRequest, backbone: Backbone) -> list[TrainEvent]:
    return list(train(request, backbone, stop=lambda: False))


def _versions(events: list[TrainEvent]) -> list[VersionReady]:
    return [event for event in events if isinstance(event, VersionReady)]


def test_shapes_are_found(eyes: Backbone, detection_request: DetectionRequest) -> None:
    events = _run(detection_request(n_epochs=10), eyes)
    (version,) = _versions(events)
    report = version.report
    assert version.name == "head"
    assert report["score"] == version.metrics["score"] > 0.6
    assert report["warnings"] == []  # `n_epochs` counts for a detector's head, unlike for others
    assert (report["metric"], report["measured_on"], report["measured_rows"]) == ("ap50", "validation_file", 10)
    assert report["data"]["labels"] == {"disc": 12, "square": 12}
    assert report["data"]["pictures_without_boxes"] == 3
    assert set(report["detection"]["per_class"]) == {"disc", "square"}
    assert isinstance(events[-1], Finished)
    losses = [
        event.metrics["train_loss"] for event in events if isinstance(event, Progress) and event.step == "fitting"
    ]
    assert losses[-1] < 0.8 * losses[0]


def test_the_first_version_is_published_on_the_way(
    eyes: Backbone, detection_request: DetectionRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strategies, "FIRST_VIEWS", 24)
    events = _run(detection_request(n_epochs=2), eyes)
    first, whole = _versions(events)
    assert (first.name, whole.name) == ("head-first", "head")
    assert first.improves
    assert whole.improves == (whole.metrics["score"] >= first.metrics["score"])
    assert [entry["name"] for entry in whole.report["strategies_tried"]] == ["head-first", "head"]
    finished, steps = events[-1], whole.report["strategies_tried"][1]["steps"]
    assert isinstance(finished, Finished)
    # The whole fit's curve, what came before the first version included.
    assert [point.step for point in finished.curve] == list(range(1, steps + 1))
    assert [point["train_loss"] for point in whole.report["loss_curve"]] == [p.train_loss for p in finished.curve]
    assert first.report["hyperparameters"]["n_epochs"] < whole.report["hyperparameters"]["n_epochs"] == 2


def test_the_artifact_holds_the_detector_and_how_to_read_it(
    eyes: Backbone, detection_request: DetectionRequest
) -> None:
    (version,) = _versions(_run(detection_request(n_epochs=1), eyes))
    artifact = read_artifact(version.artifact_dir)
    manifest = artifact.manifest
    detector = Detector(Layout.of(manifest.details["detection"]))
    detector.load_state_dict(dict(artifact.require(DetectorWeights).state))
    assert manifest.labels == ("disc", "square")
    assert manifest.details["detection"]["canvas"] == [96, 96]
    assert manifest.thresholds is not None
    assert 0.02 <= manifest.thresholds[0] < 1


# It is killed behind the first version, or before.
@pytest.mark.slow
@pytest.mark.parametrize("first_views", [8, 10_000])
def test_an_interrupted_fit_ends_with_the_same_bits(
    eyes: Backbone,
    detection_request: DetectionRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    first_views: int,
) -> None:
    """The second attempt computes on two threads, the others on one."""
    monkeypatch.setattr(strategies, "FIRST_VIEWS", first_views)
    monkeypatch.setattr("models.learning.detection.fit.CHECKPOINT_S", 0.0)
    whole = _versions(_run(detection_request(), eyes))
    cut = detection_request(name="cut", checkpoint_dir=tmp_path / "checkpoints")
    with pytest.raises(Stopped):
        _stop_at_step(4, cut, eyes)
    monkeypatch.setattr(eyes, "threads", 2)
    again = _versions(_run(cut, eyes))
    assert [each.name for each in again] == [each.name for each in whole]
    for one, other in zip(whole, again, strict=True):
        tensors = read_artifact(other.artifact_dir).tensors
        for name, tensor in read_artifact(one.artifact_dir).tensors.items():
            assert torch.equal(tensor, tensors[name]), name
        assert one.metrics == other.metrics


def test_some_pictures_are_held_out_where_there_is_no_validation_file(
    eyes: Backbone, detection_request: DetectionRequest
) -> None:
    (version,) = _versions(_run(detection_request(held=None, n_epochs=1), eyes))
    data = version.report["data"]
    assert version.report["measured_on"] == "held_out_training_rows"
    assert data["rows_of_head"] + data["held_out_rows"] == data["rows"] == 21
    assert version.report["measured_rows"] == data["held_out_rows"] >= 2


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["partial", "full"])
def test_the_base_learns_behind_the_head(eyes: Backbone, detection_request: DetectionRequest, strategy: str) -> None:
    """It begins as the trained head on the base, and serving gets the blocks that it changed."""
    events = _run(detection_request(n_epochs=1, strategy=strategy), eyes)
    head, tuned = _versions(events)
    assert (head.name, tuned.name) == ("head", strategy)
    assert tuned.improves == (tuned.metrics["score"] >= head.metrics["score"])
    own = read_artifact(tuned.artifact_dir)
    blocks = own.require(BlockWeights).states
    assert (own.find(EmbeddingWeights) is not None) == (strategy == "full")
    assert list(blocks) == (list(range(5)) if strategy == "full" else [4])
    assert any(not torch.equal(tensor, eyes.encoder.blocks[4].state_dict()[name]) for name, tensor in blocks[4].items())
    tried = {entry["name"]: entry for entry in tuned.report["strategies_tried"]}
    assert 0 <= tried[strategy]["probability"] <= 1


@pytest.mark.slow
def test_auto_trains_the_base_only_where_the_head_leaves_errors(
    eyes: Backbone, detection_request: DetectionRequest
) -> None:
    events = _run(detection_request(n_epochs=1, strategy="auto"), eyes)
    finished = events[-1]
    assert isinstance(finished, Finished)
    tried = {entry["name"]: entry for entry in finished.report["strategies_tried"]}
    assert set(tried) == {"head", "partial"}
    names = [each.name for each in _versions(events)]
    assert names == (["head", "partial"] if tried["partial"]["probability"] >= 0.9 else ["head"])
    assert finished.best == names[-1]


@pytest.mark.slow
def test_a_new_version_is_compared_with_the_live_one(eyes: Backbone, detection_request: DetectionRequest) -> None:
    """Both are asked about the same pictures, the live one by its own artifact: equal versions are equal."""
    (live,) = _versions(_run(detection_request(n_epochs=1, name="live"), eyes))
    events = _run(detection_request(n_epochs=1, live=LiveVersion(7, live.artifact_dir)), eyes)
    compared = events[-1].comparison
    assert compared is not None
    assert (compared.live, compared.problem, compared.rows, compared.seen) == (7, "", 10, False)
    assert compared.score == compared.live_score == live.metrics["score"]


@pytest.mark.parametrize("frames", [3, 7])  # 7: more than one picture in eight of 21
def test_a_film_is_held_out_whole_or_learned_from(
    eyes: Backbone, detection_request: DetectionRequest, frames: int
) -> None:
    request = detection_request(held=None)
    corpus, task, _ = read_training(request.training, find(request.task), request.hyperparameters.rare())
    film_N = np.arange(len(corpus)) // frames
    run = Run(
        request, eyes, task, dataclasses.replace(corpus, groups=Groups(film_N)), None, lambda: False, ReportBuilder()
    )
    found = materials.collect(run, maps.levels(eyes))
    held = [each.place // frames for each in found.held]
    assert held
    assert not set(held) & {each.place // frames for each in found.training}
    assert len(held) + len(found.training) == len(corpus)


@pytest.mark.slow
def test_pictures_that_are_twice_among_the_held_out_ones_are_compared_as_one(
    eyes: Backbone, detection_request: DetectionRequest, tmp_path: Path
) -> None:
    held = {**shapes.members(range(100, 110)), "images/104.png": shapes.picture(103)[0]}
    (tmp_path / "twice.zip").write_bytes(archive(held))
    found = inspect(tmp_path / "twice.zip", filename="twice.zip", limits=Limits())
    twice = DatasetSource(tmp_path / "twice.zip", found.format, found.columns)
    request = dataclasses.replace(detection_request(n_epochs=1, name="live"), validation=twice)
    (live,) = _versions(_run(request, eyes))
    request = dataclasses.replace(
        detection_request(n_epochs=1, live=LiveVersion(7, live.artifact_dir)), validation=twice
    )
    compared = _run(request, eyes)[-1].comparison
    assert compared is not None
    assert (compared.problem, compared.rows) == ("", 9)
    assert compared.score == compared.live_score == live.metrics["score"]


def test_a_base_of_tokens_is_refused(tmp_path: Path, detection_request: DetectionRequest) -> None:
    entry = media_checkpoints.write(tmp_path / "vit", "vit")
    tokens = loading.load(entry, device=DEVICE, precision="fp32", threads=1)
    with pytest.raises(NoMaps, match="'vit' has none"):
        _run(detection_request(), tokens)


def test_a_strategy_of_encoders_is_refused(eyes: Backbone, detection_request: DetectionRequest) -> None:
    with pytest.raises(UnsupportedStrategy, match="lora"):
        _run(detection_request(strategy="lora"), eyes)


def _stop_at_step(number: int, request: TrainRequest, backbone: Backbone) -> None:
    reached = threading.Event()
    for event in train(request, backbone, stop=reached.is_set):
        if isinstance(event, Progress) and event.metrics.get("step") == number:
            reached.set()
