"""Floors under the scores on a public set, when it is there."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.backbones.text import TextBackbone
from models.learning import artifacts, inference
from models.learning.events import Candidate
from models.learning.request import TrainRequest
from models.learning.training import train

BANKING = Path(__file__).parents[4] / "shared" / "data" / "banking77"
pytestmark = pytest.mark.skipif(not BANKING.is_dir(), reason="the public data sets are not here")

Rows = list[tuple[str, str]]


def _read(name: str, classes: set[str] | None, per_class: int | None) -> Rows:
    with (BANKING / name).open(newline="", encoding="utf-8") as file:
        rows = [(row["text"], row["category"]) for row in csv.DictReader(file)]
    seen: dict[str, int] = {}
    chosen = []
    for text, label in rows:
        seen[label] = seen.get(label, 0) + 1
        if (classes is None or label in classes) and (per_class is None or seen[label] <= per_class):
            chosen.append((text, label))
    return chosen


def _accuracies(request: TrainRequest, backbone: TextBackbone, test: Rows) -> dict[str, float]:
    found = {}
    for event in train(request, backbone, stop=lambda: False):
        if isinstance(event, Candidate):
            artifact = artifacts.read(event.artifact_dir)
            predictions = inference.predict(artifact, backbone, [text for text, _ in test])
            hits = [answer["label"] == label for answer, (_, label) in zip(predictions, test, strict=True)]
            found[event.name] = float(np.mean(hits))
    return found


def test_ten_intents_from_ten_rows_each(backbone: TextBackbone, make_request: Callable[..., TrainRequest]) -> None:
    classes = set(sorted({label for _, label in _read("train.csv", None, None)})[:10])
    request = make_request(_read("train.csv", classes, 10))
    assert _accuracies(request, backbone, _read("test.csv", classes, None))["head"] >= 0.95


@pytest.mark.slow
def test_all_intents_from_ten_rows_each(backbone: TextBackbone, make_request: Callable[..., TrainRequest]) -> None:
    request = make_request(_read("train.csv", None, 10))
    assert _accuracies(request, backbone, _read("test.csv", None, None))["head"] >= 0.855


@pytest.mark.slow
def test_all_intents_from_all_rows(backbone: TextBackbone, make_request: Callable[..., TrainRequest]) -> None:
    request = make_request(_read("train.csv", None, None))
    assert _accuracies(request, backbone, _read("test.csv", None, None))["head"] >= 0.938
