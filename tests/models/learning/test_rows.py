"""Which rows of the files are learned and scored: rare labels, rows in both files, pairs."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.artifacts.folder import read_artifact
from models.backbones.text import TextBackbone
from models.learning.contract.errors import TooFewRows
from models.learning.contract.events import Finished, VersionReady
from models.learning.contract.request import DatasetSource, TrainRequest
from models.learning.training import train
from tests.models.learning import inference

RequestFactory = Callable[..., TrainRequest]


def report_of(request: TrainRequest, backbone: TextBackbone) -> dict[str, Any]:
    (end,) = [event for event in train(request, backbone, stop=lambda: False) if isinstance(event, Finished)]
    return end.report


def rows(count: int) -> list[tuple[str, str]]:
    return [(f"{'open' if n % 2 else 'close'} number {n}", "ab"[n % 2]) for n in range(count)]


def test_rare_labels_are_left_out_and_the_report_says_so(
    small_backbone: TextBackbone, make_request: RequestFactory
) -> None:
    rare = [("once", "c"), ("twice", "d"), ("twice again", "d")]
    data = report_of(make_request([*rows(12), *rare]), small_backbone)["data"]
    assert (data["rows"], data["labels"]) == (14, {"a": 6, "b": 6, "d": 2})
    assert data["rare_labels"] == {"labels": {"c": 1}, "rows": 1, "rule": "drop", "min_rows_per_label": 2}
    asked = {"min_rows_per_label": 3, "rare_labels": "merge"}
    held = [("open number 99", "b"), ("only here", "c")]
    data = report_of(make_request([*rows(12), *rare], validation=held, hyperparameters=asked), small_backbone)["data"]
    assert data["labels"] == {"a": 6, "b": 6, "other": 3}
    assert data["validation_rows"] == 2


def with_labels(make_request: RequestFactory, tmp_path: Path, rows: list[list[str]], **asked: object) -> TrainRequest:
    """A request for texts that name their own labels."""
    path = tmp_path / "several.jsonl"
    lines = [
        {"text": f"row {n} is {' and '.join(labels) or 'calm'}", "labels": labels} for n, labels in enumerate(rows)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    source = DatasetSource(path, "jsonl", {"text": "text", "labels": "labels"})
    request = make_request([("unused", "a")], hyperparameters=asked)
    return replace(request, training=source, task="multi-label-classification")


def test_one_label_is_told_apart_from_none(
    backbone: TextBackbone, make_request: RequestFactory, tmp_path: Path
) -> None:
    request = with_labels(make_request, tmp_path, [["angry"] if n % 3 == 0 else [] for n in range(15)])
    events = list(train(request, backbone, stop=lambda: False))
    (version,) = [event for event in events if isinstance(event, VersionReady)]
    assert version.report["data"]["labels"] == {"angry": 5}
    assert [each["label"] for each in version.report["per_class"]] == ["angry"]
    assert version.report["score"] > version.report["baseline"]["majority"]
    answers = inference.predict(read_artifact(version.artifact_dir), backbone, ["row 99 is angry", "row 98 is calm"])
    assert [answer["labels"] for answer in answers] == [["angry"], []]
    assert [answer["top"][0]["label"] for answer in answers] == ["angry", "angry"]


@pytest.mark.parametrize("asked", [{"min_rows_per_label": 10_000}, {"min_rows_per_label": 7, "rare_labels": "merge"}])
def test_too_few_rows_for_want_of_common_labels_names_the_hyperparameter(
    small_backbone: TextBackbone, make_request: RequestFactory, tmp_path: Path, asked: dict[str, object]
) -> None:
    request = with_labels(make_request, tmp_path, [["a"] if n % 2 else ["b"] for n in range(12)], **asked)
    with pytest.raises(TooFewRows, match=r"2 labels with fewer than .* rows were .* a smaller min_rows_per_label"):
        list(train(request, small_backbone, stop=lambda: False))


def test_rows_of_both_files_are_not_scored(small_backbone: TextBackbone, make_request: RequestFactory) -> None:
    held = [("OPEN  number 1", "b"), ("open number 21", "b"), ("close number 22", "a"), ("close number 2", "b")]
    report = report_of(make_request(rows(12), validation=held), small_backbone)
    data = report["data"]
    assert (data["validation_rows"], data["validation_rows_in_training"]) == (2, 2)
    (warning,) = [warning for warning in report["warnings"] if warning["code"] == "validation_in_training"]
    assert (warning["count"], "2 of the 4 rows" in warning["message"]) == (2, True)
    request = make_request(rows(12), validation=rows(12))
    report = report_of(request, small_backbone)
    assert (report["data"]["validation_rows"], report["data"]["validation_rows_in_training"]) == (0, 12)


def test_pairs_are_compared(small_backbone: TextBackbone, make_request: RequestFactory, tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    doings = [f"{verb} the {thing}" for verb in ("open", "close", "paint") for thing in ("door", "gate", "box", "wall")]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "text_pair", "label"))
        for n in range(72):
            first = doings[n % 12]
            second = first if n % 2 else doings[(n * 5 + 1 + n // 12) % 12]
            writer.writerow((first, second, "same" if first == second else "other"))
    columns = {name: name for name in ("text", "text_pair", "label")}
    request = replace(
        make_request(rows(4)), training=DatasetSource(path, "csv", columns), task="text-pair-classification"
    )
    report = report_of(request, small_backbone)
    assert report["task"] == "text-pair-classification"
    assert report["score"] > 0.95  # the label is whether both are equal; one text alone says nothing


def test_spans_beyond_what_is_read_count_as_missed(
    small_backbone: TextBackbone, make_request: RequestFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.datasets.windowing.MOST_TOKENS", 100)
    path = tmp_path / "spans.jsonl"
    filler = "and so on " * 20
    with path.open("w", encoding="utf-8") as file:
        for n in range(12):
            text = f"Rome{n} {filler}Oslo{n}"
            ends = [[0, len(f"Rome{n}"), "from"], [len(text) - len(f"Oslo{n}"), len(text), "to"]]
            file.write(json.dumps({"text": text, "spans": ends}) + "\n")
    source = DatasetSource(path, "jsonl", {"text": "text", "spans": "spans"})
    report = report_of(replace(make_request(rows(4)), training=source, task="token-classification"), small_backbone)
    assert report["data"]["windows"]["texts"] == 12
    cut = report["data"]["truncated"]
    assert (cut["texts"], cut["of"], cut["spans"], cut["of_spans"]) == (12, 12, 12, 24)
    assert report["score"] <= 2 / 3  # half of the truth cannot be found
    behind = next(each for each in report["per_class"] if each["label"] == "to")
    assert (behind["support"], behind["recall"]) == (12, 0.0)


def test_texts_that_are_not_read_to_their_end_are_counted(
    small_backbone: TextBackbone, make_request: RequestFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.datasets.windowing.MOST_TOKENS", 150)
    long = [(f"{text} {'a ' * 100}", label) for text, label in rows(3)]
    longer = [(f"{text} {'a ' * 150}", label) for text, label in rows(2)]
    data = report_of(make_request([*rows(8), *long, *longer]), small_backbone)["data"]
    assert (data["windows"]["texts"], data["windows"]["of"]) == (5, 13)
    assert (data["truncated"]["texts"], data["truncated"]["of"], data["truncated"]["read_tokens"]) == (2, 13, 150)
    assert (data["windows"]["rows"], data["truncated"]["rows"]) == ([9, 10, 11, 12, 13], [12, 13])
    data = report_of(make_request(rows(8)), small_backbone)["data"]
    assert not {"windows", "truncated"} & data.keys()


def test_cut_tokens_are_those_behind_the_row(small_backbone: TextBackbone) -> None:
    most = small_backbone.entry.max_tokens
    texts = ["a b", "a " * (most - 2), "a " * (most - 1), "a " * (most + 40)]
    cut_N = small_backbone.cut_tokens(texts, small_backbone.tokenize(texts))
    assert cut_N.tolist() == [0, 0, 1, 42]
