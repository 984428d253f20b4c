from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from PIL import Image

from models.backbones import maps
from models.backbones.backbone import Backbone
from models.datasets.examples import Media
from models.learning.contract.events import Progress, VersionReady
from models.learning.detection import canvas, families, frozen, judging
from models.learning.detection import material as materials
from models.learning.detection.canvas import Canvas
from models.learning.detection.frozen import FrozenView, FrozenViews
from models.learning.detection.judging import Judge
from models.learning.detection.material import Picture
from models.learning.detection.model import PIXELS
from models.learning.evaluation.boxes import PictureBoxes
from models.learning.training import train
from models.serving.detection import passes
from models.serving.detection.passes import PictureRow
from tests.models.learning.detection.conftest import DetectionRequest, opened


class CountedViews(FrozenViews):
    """Views that count how often each was computed, and how many were asked for together."""

    def read(self, wanted: Sequence[tuple[int, int]], *, stop: Callable[[], bool]) -> list[FrozenView]:
        self.together = max(getattr(self, "together", 0), len(wanted))
        return super().read(wanted, stop=stop)

    def _compute(self, index: int, number: int) -> FrozenView:
        self.computed = getattr(self, "computed", Counter())
        self.computed[index, number] += 1
        return super()._compute(index, number)


def test_held_out_pictures_are_answered_a_few_at_a_time(
    eyes: Backbone, detection_request: DetectionRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where none is kept each is computed once, on two threads, and found is the same."""
    run = opened(detection_request(), eyes)
    material = materials.collect(run, maps.levels(eyes))
    judge, family = Judge(run, eyes, material), families.find(eyes)
    model = family.head(material.levels, len(run.labels), seed=0)
    kept = judge.judge(model, judge.views(model))
    monkeypatch.setattr(frozen, "_KEPT_BYTES", 0)
    monkeypatch.setattr(judging, "_TOGETHER", 3)
    monkeypatch.setattr(judging, "FrozenViews", CountedViews)
    monkeypatch.setattr(eyes, "threads", 2)
    views = judge.views(model)
    assert isinstance(views, CountedViews)
    found = judge.judge(model, views)
    assert views.computed == {(index, 0): 1 for index in range(10)}
    assert views.together == 3
    assert found.score == kept.score
    for one, other in zip(kept.found, found.found, strict=True):
        assert np.array_equal(one.edges_B4, other.edges_B4)
        assert np.array_equal(one.score_B, other.score_B)


def test_of_a_large_validation_file_a_sample_is_scored(
    eyes: Backbone, detection_request: DetectionRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = materials.collect(opened(detection_request(), eyes), maps.levels(eyes))
    assert (len(whole.held), whole.sampling) == (10, "")
    monkeypatch.setattr(materials, "_MOST_HELD", 6)
    other = materials.collect(opened(detection_request(seed=5), eyes), maps.levels(eyes))
    events = list(train(detection_request(n_epochs=1), eyes, stop=lambda: False))
    (version,) = (event for event in events if isinstance(event, VersionReady))
    (warning,) = (each for each in version.report["warnings"] if each["code"] == "validation_sampled")
    assert "6 of the 10 pictures" in warning["message"]
    assert any(isinstance(event, Progress) and event.message == other.sampling for event in events)
    assert version.report["measured_rows"] == version.report["data"]["held_out_rows"] == 6
    sample = materials.collect(opened(detection_request(), eyes), maps.levels(eyes))
    assert [each.place for each in sample.held] == [each.place for each in other.held]
    assert {each.row for each in sample.held} < {each.row for each in whole.held}
    assert {label for each in sample.held for label in each.truth.label_B} == {0, 1}
    assert any(not len(each.truth) for each in sample.held)  # those without boxes are a kind of their own


def test_the_judge_sees_a_photo_as_serving_does(eyes: Backbone, detection_request: DetectionRequest) -> None:
    """A JPEG is decoded reduced, to no less than what is drawn: at the zoom of training it was twice as large."""
    noise_HW3 = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise_HW3).save(buffer, "JPEG")
    photo = Media("photo.jpg", buffer.getvalue())
    size, square = (400, 400), Canvas(96, 96)
    run = opened(detection_request(), eyes)
    material = materials.collect(run, maps.levels(eyes))
    nothing = PictureBoxes(np.empty((0, 4)), np.empty(0, dtype=np.int64))
    held = (Picture(0, photo, 1, size, nothing),)
    alone = materials.Material(material.training, held, None, square, material.levels)
    model = families.find(eyes).head(material.levels, len(run.labels), seed=0)
    view = Judge(run, eyes, alone).views(model).read([(0, 0)], stop=lambda: False)[0]
    served_HW3 = passes._draw(PictureRow(photo, size), square)
    values_B3HW = maps.values(eyes, served_HW3[None])
    with torch.no_grad():
        served = maps.compute(eyes.encoder, sorted(view.maps), values_B3HW)
    assert PIXELS not in view.maps
    for depth, seen in view.maps.items():
        assert torch.equal(seen, served[depth][0]), depth
    assert canvas.decode(photo, size, square).width == 100
