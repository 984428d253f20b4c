"""A trained version applied to inputs without the predictor: for evaluation here, and as the reference in tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.backbones.loading import Backbone
from models.datasets.examples import TextPair
from models.learning import calibration, tasks
from models.learning.artifacts import Artifact
from models.learning.heads import Floats


def predict(
    artifact: Artifact, backbone: Backbone, inputs: Sequence[str | TextPair], *, top_k: int = 1
) -> list[dict[str, Any]]:
    """One prediction per input, as the API answers it."""
    task = tasks.find(artifact.task)
    probabilities_NK = calibration.probabilities(logits(artifact, backbone, inputs), task.link, artifact.temperature)
    thresholds = None if artifact.thresholds is None else np.array(artifact.thresholds, dtype=np.float32)
    return [task.decode(row_K, artifact.labels, thresholds, top_k) for row_K in probabilities_NK]


def logits(artifact: Artifact, backbone: Backbone, inputs: Sequence[str | TextPair]) -> Floats:
    """(N, K) float32, before the temperature."""
    features_NF = backbone.encode(inputs, artifact.features)
    logits_NK: Floats = features_NF @ artifact.tensors["head.weight"].numpy().T + artifact.tensors["head.bias"].numpy()
    return logits_NK
