"""Reports are what the documentation says of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from api.schemas.report import ReportObject
from models.backbones import loading
from models.backbones.loading import Backbone
from models.learning.contract.events import Finished
from models.learning.contract.request import DatasetSource, Hyperparameters, Strategy, TrainRequest
from models.learning.training import train
from tests.models.backbones import text_checkpoints
from tests.models.learning.generated import coded, nearness, places


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """A base with random weights."""
    return loading.load(text_checkpoints.write(tmp_path_factory.mktemp("small")), device="cpu", threads=1)


def _rows(task: str) -> list[dict[str, Any]]:
    if task == "text-regression":
        return nearness(40, seed=0)
    if task == "token-classification":
        return places(40, seed=0)
    rows = [{"text": text, "label": label} for text, label in coded(60, seed=0, classes=3)]
    if task == "text-classification":
        return rows
    second = np.random.default_rng(0).random(len(rows)) < 0.3
    return [
        {"text": row["text"], "labels": [row["label"], *(["more"] if more else [])]}
        for row, more in zip(rows, second, strict=True)
    ]


@pytest.mark.parametrize(
    ("task", "strategy"),
    [
        pytest.param("text-classification", "lora", marks=pytest.mark.slow),
        ("text-classification", "auto"),
        ("text-classification", "zero-shot"),
        ("multi-label-classification", "head"),
        ("text-regression", "head"),
        ("token-classification", "head"),
    ],
)
def test_every_field_of_a_report_is_documented(base: Backbone, tmp_path: Path, task: str, strategy: Strategy) -> None:
    report = _report(base, tmp_path, _rows(task), task, strategy)
    ReportObject.model_validate(report)
    assert set(report) <= set(ReportObject.model_fields)
    assert "words" not in report["hyperparameters"] or task == "token-classification"


@pytest.mark.parametrize("words", ["joined", "apart"])
def test_a_report_of_spans_says_how_words_are_cut(base: Backbone, tmp_path: Path, words: str) -> None:
    rows = _rows("token-classification")
    if words == "apart":  # a span ends inside of what stands between spaces
        rows.append({"text": "go Rome-bound", "spans": [{"start": 3, "end": 7, "label": "city"}]})
    report = _report(base, tmp_path, rows, "token-classification", "head")
    assert report["hyperparameters"]["words"] == words


def _report(
    base: Backbone, tmp_path: Path, rows: list[dict[str, Any]], task: str, strategy: Strategy
) -> Mapping[str, Any]:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    request = TrainRequest(
        DatasetSource(path, "jsonl", {name: name for name in rows[0]}),
        task,
        tmp_path / "out",
        strategy=strategy,
        threads=1,
        refine_budget_s=10.0,
        hyperparameters=Hyperparameters(n_epochs=1),
    )
    *_, finished = train(request, base, stop=lambda: False)
    assert isinstance(finished, Finished)
    return finished.report
