from __future__ import annotations

import dataclasses
import math

import pytest

from models.backbones.backbone import Backbone
from models.learning.contract.errors import InvalidHyperparameters
from models.learning.contract.request import Hyperparameters
from models.learning.detection.learner import DetectionLearner
from models.learning.detection.strategies import PYRAMID, fitting, settle
from tests.models.learning.detection.conftest import DetectionRequest


@pytest.mark.parametrize(
    ("strategy", "asked", "trains"),
    [
        ("partial", 3, 3),
        ("partial", 17, 16),
        ("partial", "auto", 5),
        ("full", 3, None),
        ("head", 17, 0),
        ("head", 0, 0),
    ],
)
def test_blocks_that_train(strategy: str, asked: int, trains: int | None) -> None:
    """MobileNet has 17, of which a detector reads 16: after the head was published, 17 was refused."""
    config = settle(strategy, Hyperparameters(trainable_blocks=asked), PYRAMID, pictures=20, blocks=16)
    assert config.trainable_blocks == trains


@pytest.mark.parametrize(("strategy", "refused"), [("partial", True), ("auto", True), ("head", False), ("full", False)])
def test_no_block_at_all_is_refused_before_anything_is_trained(
    eyes: Backbone, detection_request: DetectionRequest, strategy: str, refused: bool
) -> None:
    request = detection_request(strategy=strategy)
    request = dataclasses.replace(request, hyperparameters=Hyperparameters(trainable_blocks=0))
    if not refused:
        DetectionLearner().check(request, eyes)
        return
    with pytest.raises(InvalidHyperparameters, match="one block of the base at least"):
        DetectionLearner().check(request, eyes)


def test_steps_that_fit_a_budget() -> None:
    """8,000 pictures at 0.43 s a step: 12 epochs take 5,200 s, and the job failed at 3,600."""
    whole = settle("head", Hyperparameters(), PYRAMID, pictures=8_000, blocks=16)
    assert whole.steps == 12_000
    assert fitting(whole, done=125, seconds=54.0, budget_s=900.0).steps == 125 + 2083
    assert fitting(whole, done=125, seconds=54.0, budget_s=1.0).steps == whole.steps_per_epoch == 1_000
    assert fitting(whole, done=125, seconds=54.0, budget_s=math.inf) == whole
    assert fitting(whole, done=125, seconds=0.0, budget_s=900.0) == whole  # from a checkpoint that does not say
