"""A trained version applied to inputs without the predictor: the reference in tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.artifacts.folder import Artifact
from models.backbones.loading import Backbone
from models.datasets.examples import Input
from models.learning import tasks
from models.learning.comparison import inference
from models.learning.evaluation import calibration
from models.learning.heads.linear import Floats
from models.learning.tasks.task import DecodeOptions


def predict(artifact: Artifact, backbone: Backbone, inputs: Sequence[Input], *, top_k: int = 1) -> list[dict[str, Any]]:
    """One prediction per input, as the API answers it."""
    task = tasks.encoder_task(tasks.find(artifact.manifest.task))
    backbone = task.view(backbone.with_windowing(artifact.manifest.windowing), inputs)
    manifest = artifact.manifest
    probabilities_NK = calibration.probabilities(logits(artifact, backbone, inputs), task.link, manifest.temperature)
    rows = backbone.tokenize(inputs)
    counts_N = backbone.units(rows)
    outputs = list(probabilities_NK) if counts_N is None else np.split(probabilities_NK, np.cumsum(counts_N)[:-1])
    options = DecodeOptions(manifest.labels, manifest.thresholds, top_k, scale=manifest.scale)
    return task.decode(outputs, inputs, dict(enumerate(rows)), options)


def logits(artifact: Artifact, backbone: Backbone, inputs: Sequence[Input]) -> Floats:
    """(N, K) float32, before the temperature; (W, K) where words are what is predicted."""
    return inference.logits(artifact, backbone, backbone.tokenize(inputs), inputs)
