from __future__ import annotations

import dataclasses

import pytest

from models.backbones.backbone import Backbone
from models.learning.contract.errors import InvalidHyperparameters
from models.learning.contract.request import Hyperparameters
from models.learning.detection.learner import DetectionLearner
from models.learning.detection.strategies import PYRAMID, settle
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
