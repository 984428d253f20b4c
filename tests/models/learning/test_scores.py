"""Floors under the scores on a public set, when it is there."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.artifacts.folder import Artifact, read_artifact
from models.backbones.text import TextBackbone
from models.datasets.examples import TextPair
from models.learning.contract.events import VersionReady
from models.learning.contract.request import DatasetSource, TrainRequest
from models.learning.training import train
from tests.models.learning import inference

DATA = Path(__file__).parents[4] / "shared" / "data"
BANKING = DATA / "banking77"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BANKING.is_dir(), reason="the public data sets are not here"),
]

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
        if isinstance(event, VersionReady):
            artifact = read_artifact(event.artifact_dir)
            predictions = inference.predict(artifact, backbone, [text for text, _ in test])
            hits = [answer["label"] == label for answer, (_, label) in zip(predictions, test, strict=True)]
            found[event.name] = float(np.mean(hits))
    return found


def test_ten_intents_from_ten_rows_each(backbone: TextBackbone, make_request: Callable[..., TrainRequest]) -> None:
    classes = set(sorted({label for _, label in _read("train.csv", None, None)})[:10])
    request = make_request(_read("train.csv", classes, 10))
    assert _accuracies(request, backbone, _read("test.csv", classes, None))["head"] >= 0.95


def test_all_intents_from_ten_rows_each(backbone: TextBackbone, make_request: Callable[..., TrainRequest]) -> None:
    request = make_request(_read("train.csv", None, 10))
    assert _accuracies(request, backbone, _read("test.csv", None, None)[::2])["head"] >= 0.855


def test_all_intents_from_thirty_rows_each(backbone: TextBackbone, make_request: Callable[..., TrainRequest]) -> None:
    request = make_request(_read("train.csv", None, 30))
    assert _accuracies(request, backbone, _read("test.csv", None, None)[::2])["head"] >= 0.9


def _stsb(part: str) -> list[dict[str, Any]]:
    with (DATA / "stsb" / f"en_{part}.csv").open(newline="", encoding="utf-8") as file:
        return [
            {"text": row["sentence1"], "text_pair": row["sentence2"], "value": float(row["score"])}
            for row in csv.DictReader(file)
        ]


def _bookings(part: str) -> list[dict[str, Any]]:
    """Requests for a table; of spans that overlap the first one is kept."""
    rows = []
    for item in json.loads((DATA / "restaurant8k" / f"{part}.json").read_text("utf-8")):
        spans: list[dict[str, Any]] = []
        for label in sorted(item.get("labels", []), key=lambda label: int(label["valueSpan"].get("startIndex", 0))):
            start, end = label["valueSpan"].get("startIndex", 0), label["valueSpan"]["endIndex"]
            if not spans or start >= spans[-1]["end"]:
                spans.append({"start": start, "end": end, "label": label["slot"]})
        rows.append({"text": item["userInput"]["text"], "spans": spans})
    return rows


def _train_lines(rows: list[dict[str, Any]], task: str, backbone: TextBackbone, folder: Path) -> Artifact:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    source = DatasetSource(path, "jsonl", {column: column for column in rows[0]})
    request = TrainRequest(source, task, folder / "out", strategy="head", seed=7, threads=1)
    *_, best = [event for event in train(request, backbone, stop=bool) if isinstance(event, VersionReady)]
    return read_artifact(best.artifact_dir)


@pytest.mark.parametrize(("rows", "floor"), [(300, 0.8), (1_100, 0.82)])
def test_nearness_of_sentences(backbone: TextBackbone, tmp_path: Path, rows: int, floor: float) -> None:
    artifact = _train_lines(_stsb("train")[:: 5_749 // rows][:rows], "text-regression", backbone, tmp_path)
    test = _stsb("test")[::4]
    answers = inference.predict(artifact, backbone, [TextPair(row["text"], row["text_pair"]) for row in test])
    values, true = ([row["value"] for row in found] for found in (answers, test))
    assert np.corrcoef(values, true)[0, 1] >= floor


def test_spans_in_bookings(backbone: TextBackbone, tmp_path: Path) -> None:
    artifact = _train_lines(_bookings("train_0")[::20], "token-classification", backbone, tmp_path)
    test = _bookings("test")[::12]
    answers = inference.predict(artifact, backbone, [row["text"] for row in test])
    said, true = (
        [{(span["start"], span["end"], span["label"]) for span in row["spans"]} for row in found]
        for found in (answers, test)
    )
    right = sum(len(one & other) for one, other in zip(said, true, strict=True))
    assert 2 * right / (sum(map(len, said)) + sum(map(len, true))) >= 0.75
