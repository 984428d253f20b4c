from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.backbones import loading
from models.backbones.backbone import Backbone
from models.learning.contract.request import Hyperparameters, TrainRequest
from models.learning.data.corpus import read_training, read_validation
from models.learning.detection import canvas, families
from models.learning.report import ReportBuilder
from models.learning.run import Run
from models.learning.tasks import find
from tests.device import DEVICE
from tests.models.backbones import media_checkpoints
from tests.models.learning.detection import shapes

DetectionRequest = Callable[..., TrainRequest]


def opened(request: TrainRequest, backbone: Backbone) -> Run:
    """A run whose files are read."""
    corpus, task, replaced = read_training(request.training, find(request.task), request.hyperparameters.rare())
    held = None if request.validation is None else read_validation(request.validation, task, corpus, replaced)
    return Run(request, backbone, task, corpus, held, lambda: False, ReportBuilder())


@pytest.fixture(scope="session")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """A small convolutional base with random weights: enough to tell shapes by their colours."""
    entry = media_checkpoints.write(tmp_path_factory.mktemp("eyes"), "resnet")
    return loading.load(entry, device=DEVICE, precision="fp32", threads=1)


@pytest.fixture
def detection_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DetectionRequest:
    """Make requests for a detector of shapes, smaller and on a smaller canvas than those of customers."""
    monkeypatch.setattr(canvas, "SIDES", (96,))
    monkeypatch.setattr(families, "CHANNELS", 32)

    def make(*, train: range = range(21), held: range | None = range(100, 110), **options: Any) -> TrainRequest:
        epochs = options.pop("n_epochs", 2)
        name = options.pop("name", "out")
        return TrainRequest(
            training=shapes.source(tmp_path / "shapes.zip", train),
            validation=None if held is None else shapes.source(tmp_path / "held.zip", held),
            task="object-detection",
            output_dir=tmp_path / name,
            strategy=options.pop("strategy", "head"),
            hyperparameters=Hyperparameters(n_epochs=epochs),
            **options,
        )

    return make
