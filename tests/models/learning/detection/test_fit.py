from __future__ import annotations

from pathlib import Path

import pytest

from models.backbones import maps
from models.backbones.backbone import Backbone
from models.learning.contract.events import Finished, Progress, VersionReady
from models.learning.detection import families, strategies
from models.learning.detection import fit as fits
from models.learning.detection import material as materials
from models.learning.detection.fit import DetectionRun
from models.learning.detection.judging import Judge
from models.learning.training import train
from tests.models.learning.detection.conftest import DetectionRequest, opened


@pytest.mark.parametrize(
    ("strategy", "first_views", "head_steps"),
    [
        ("auto", 8, 3),
        pytest.param("auto", 40, 5, marks=pytest.mark.slow),
        pytest.param("head", 8, 12, marks=pytest.mark.slow),
    ],
)
def test_auto_trains_the_head_no_longer_than_its_budget(
    eyes: Backbone,
    detection_request: DetectionRequest,
    monkeypatch: pytest.MonkeyPatch,
    strategy: str,
    first_views: int,
    head_steps: int,
) -> None:
    """Nothing fits: one epoch of three steps is taken, or the first version's five. By its name it takes all twelve."""
    monkeypatch.setattr(strategies, "FIRST_VIEWS", first_views)
    request = detection_request(n_epochs=4, strategy=strategy, refine_budget_s=1e-9)
    events = list(train(request, eyes, stop=lambda: False))
    finished = events[-1]
    assert isinstance(finished, Finished)
    tried = {entry["name"]: entry for entry in finished.report["strategies_tried"]}
    heads = [event for event in events if isinstance(event, VersionReady) and event.name.startswith("head")]
    last = heads[-1]
    assert tried[last.name]["steps"] == head_steps
    assert last.report["hyperparameters"]["n_epochs"] == -(-head_steps // 3)
    said = "to fit into the budget for refinement: 3 of 12 steps" if head_steps == 3 else None
    assert tried["head"].get("reduced") == said
    assert ("abandoned" in tried["head"]) == (head_steps == 5)
    percents = [event.percent for event in events if isinstance(event, Progress)]
    assert percents == sorted(percents)


def test_a_later_attempt_decides_the_same_steps(
    eyes: Backbone, detection_request: DetectionRequest, tmp_path: Path
) -> None:
    """It finds the seconds of the first steps in their checkpoint: else the second checkpoint were another fit's."""
    request = detection_request(n_epochs=50, strategy="auto", checkpoint_dir=tmp_path / "checkpoints")
    run = opened(request, eyes)
    material = materials.collect(run, maps.levels(eyes))
    detection = DetectionRun(run, eyes, families.find(eyes), material, Judge(run, eyes, material))
    fit = fits.prepare_head(detection, 0.0, 100.0)
    kept = fits.checkpoints_of(detection, fit.config, "head-first")
    assert kept is not None
    assert len(list(fits.steps(detection, fit, 3, kept))) == 3
    fit.loop.save(kept)
    again = fits.prepare_head(detection, 0.0, 100.0)
    assert list(fits.steps(detection, again, 3, fits.checkpoints_of(detection, again.config, "head-first"))) == []
    assert again.loop.seconds == fit.loop.seconds > 0
    assert fits.within_budget(detection, again).config == fits.within_budget(detection, fit).config
