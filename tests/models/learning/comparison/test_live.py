"""A new version beside the live one: which rows are compared, what is said, and what goes live by it."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.artifacts.folder import is_as_published, read_artifact
from models.artifacts.manifest import MANIFEST
from models.backbones.text import TextBackbone
from models.learning.contract.comparison import ROWS_FILE, LiveComparison, LiveVersion
from models.learning.contract.events import Finished, from_dict, to_dict
from models.learning.contract.request import DatasetSource, TrainRequest
from models.learning.data import row_record
from models.learning.data.row_record import RowRecord
from models.learning.training import train
from models.services.promotion import Decision, Live, NewVersion, decide
from tests.models.learning.generated import nearness, places

Rows = list[tuple[str, str]]
RequestFactory = Callable[..., TrainRequest]


def _finish(request: TrainRequest, backbone: TextBackbone) -> Finished:
    *_, finished = train(request, backbone, stop=lambda: False)
    assert isinstance(finished, Finished)
    return finished


def _live(request: TrainRequest, backbone: TextBackbone) -> LiveVersion:
    return LiveVersion(1, request.output_dir / _finish(request, backbone).best)


def _compared(request: TrainRequest, live: LiveVersion, backbone: TextBackbone) -> tuple[LiveComparison, Decision]:
    finished = _finish(replace(request, live=live), backbone)
    assert finished.comparison is not None
    report = finished.report
    new = NewVersion(2, report["data"]["rows"], report["score"], report["baseline"]["majority"])
    rows = len(found.input_keys_N) if (found := row_record.read(live.folder / ROWS_FILE)) else None
    return finished.comparison, decide("auto", new, Live(1, rows), finished.comparison)


@pytest.fixture(scope="session")
def some(tickets: Rows) -> Rows:
    """Thirty rows of each class."""
    return [row for number, row in enumerate(tickets) if number % 50 < 30]


@pytest.fixture(scope="module")
def published(some: Rows, backbone: TextBackbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of a head that was trained on them."""
    folder = tmp_path_factory.mktemp("published")
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *some])
    source = DatasetSource(folder / "rows.csv", "csv", {"text": "text", "label": "label"})
    request = TrainRequest(source, "text-classification", folder / "out", strategy="head", seed=7, threads=1)
    return _live(request, backbone).folder


@pytest.fixture
def live(published: Path, tmp_path: Path) -> LiveVersion:
    """That version, in a copy that a test may damage."""
    return LiveVersion(1, Path(shutil.copytree(published, tmp_path / "live")))


def test_the_same_rows_again(
    live: LiveVersion, make_request: RequestFactory, some: Rows, backbone: TextBackbone
) -> None:
    found, decision = _compared(make_request(some), live, backbone)
    # Each by what it said of a row while that was held out; the same seed makes the same folds.
    assert (found.rows, found.seen, found.gain) == (len(some), False, 0.0)
    assert found.score == found.live_score
    assert not decision.promoted
    assert "not on more data" in decision.reason


def test_more_rows_of_the_same(
    live: LiveVersion, make_request: RequestFactory, tickets: Rows, backbone: TextBackbone
) -> None:
    found, decision = _compared(make_request(tickets), live, backbone)
    assert (found.rows, found.seen) == (len(tickets), False)
    assert decision.promoted, decision.reason


def test_shuffled_labels(live: LiveVersion, make_request: RequestFactory, some: Rows, backbone: TextBackbone) -> None:
    labels = np.random.default_rng(0).permutation([label for _, label in some])
    shuffled = [(text, str(label)) for (text, _), label in zip(some, labels, strict=True)]
    found, decision = _compared(make_request(shuffled), live, backbone)
    assert not decision.promoted
    assert found.score < 0.3


def test_a_third_of_the_labels_shuffled_and_more_rows(
    live: LiveVersion, make_request: RequestFactory, tickets: Rows, backbone: TextBackbone
) -> None:
    generator = np.random.default_rng(0)
    labels = sorted({label for _, label in tickets})
    spoiled = [(text, str(generator.choice(labels)) if generator.random() < 0.4 else label) for text, label in tickets]
    _, decision = _compared(make_request(spoiled), live, backbone)
    assert not decision.promoted
    assert "worse" in decision.reason


def test_fewer_classes(live: LiveVersion, make_request: RequestFactory, tickets: Rows, backbone: TextBackbone) -> None:
    fewer = [row for row in tickets if row[1] not in {"billing", "damaged_item"}]
    found, decision = _compared(make_request(fewer), live, backbone)
    assert found.labels_lost == ("billing", "damaged_item")
    assert found.rows == len(fewer)
    assert not decision.promoted
    assert "no longer knows 'billing', 'damaged_item'" in decision.reason


@pytest.mark.slow
def test_a_class_more(make_request: RequestFactory, some: Rows, tickets: Rows, backbone: TextBackbone) -> None:
    live = _live(make_request([row for row in some if row[1] != "billing"]), backbone)
    found, decision = _compared(make_request(tickets), live, backbone)
    assert found.labels_added == ("billing",)
    # The live version cannot be right on the new label: its rows do not count.
    assert found.rows == sum(label != "billing" for _, label in tickets)
    assert decision.promoted, decision.reason


def test_other_classes(live: LiveVersion, make_request: RequestFactory, some: Rows, backbone: TextBackbone) -> None:
    found, decision = _compared(make_request([(text, f"new {label}") for text, label in some]), live, backbone)
    assert (found.rows, found.problem) == (0, "the two share no label")
    assert len(found.labels_lost) == len(found.labels_added) == 8
    assert not decision.promoted


@pytest.mark.slow
def test_a_validation_file(
    live: LiveVersion, make_request: RequestFactory, some: Rows, tickets: Rows, backbone: TextBackbone
) -> None:
    rest = [row for row in tickets if row not in some]
    found, decision = _compared(make_request(some, validation=rest), live, backbone)
    assert (found.rows, found.seen) == (len(rest), False)
    assert not decision.promoted
    # Rows of the file that are in the training file do not count; without any other, training rows are held out.
    known, _ = _compared(make_request(some, validation=[*rest, *some[:50]]), live, backbone)
    assert (known.rows, known.seen) == (len(rest), False)
    all_known, _ = _compared(make_request(some, validation=some), live, backbone)
    assert (all_known.rows, all_known.seen) == (len(some), False)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_version_without_the_record_that_was_published(
    live: LiveVersion, make_request: RequestFactory, tickets: Rows, backbone: TextBackbone, damage: str
) -> None:
    path = live.folder / ROWS_FILE
    manifest = read_artifact(live.folder).manifest
    assert is_as_published(live.folder, ROWS_FILE, manifest)
    if damage == "missing":
        path.unlink()
    else:  # a record that can be read, and is not the one that was published
        found = row_record.read(path)
        assert found is not None
        row_record.write(replace(found, input_keys_N=found.input_keys_N + 1), path)
    assert not is_as_published(live.folder, ROWS_FILE, manifest)
    # Versions of before name no record: what lies beside them is taken as it is.
    assert is_as_published(live.folder, ROWS_FILE, replace(manifest, files={}))
    found, decision = _compared(make_request(tickets), live, backbone)
    assert (found.rows, found.seen) == (len(tickets), True)
    assert "may have been trained" in decision.reason


@pytest.mark.parametrize("damage", ["missing", "weights", "revision"])
def test_a_version_that_cannot_answer(
    live: LiveVersion, make_request: RequestFactory, some: Rows, backbone: TextBackbone, damage: str
) -> None:
    manifest = live.folder / MANIFEST
    if damage == "missing":
        manifest.unlink()
    elif damage == "weights":
        (live.folder / "weights.safetensors").write_bytes(b"nothing")
    else:
        values = json.loads(manifest.read_bytes())
        manifest.write_text(json.dumps({**values, "base": {**values["base"], "revision": "older"}}))
    found, decision = _compared(make_request(some), live, backbone)
    assert found.broken
    assert decision.promoted
    assert "cannot answer" in decision.reason


@pytest.mark.slow
def test_a_refined_version_is_compared_on_the_rows_of_its_trial(
    make_request: RequestFactory, few: Rows, small_backbone: TextBackbone
) -> None:
    fast = {"n_epochs": 1, "lora_rank": 2, "batch_size": 16}
    request = make_request(few, strategy="lora", hyperparameters=fast)
    live = _live(request, small_backbone)
    record = row_record.read(live.folder / ROWS_FILE)
    assert record is not None
    held = int((~np.isnan(record.parts_NJ).any(1)).sum())
    assert len(record.input_keys_N) == len(few) >= held > 0
    found, _ = _compared(make_request(few, strategy="lora", hyperparameters=fast), live, small_backbone)
    assert 0 < found.rows <= len(few)
    head, _ = _compared(make_request(few), live, small_backbone)
    assert 0 < head.rows <= len(few)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["text-regression", "token-classification", "multi-label-classification"])
def test_every_task_is_compared(task: str, small_backbone: TextBackbone, tmp_path: Path) -> None:
    def request(name: str, rows: list[dict[str, Any]]) -> TrainRequest:
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        source = DatasetSource(path, "jsonl", {column: column for column in rows[0]})
        return TrainRequest(source, task, tmp_path / name, strategy="head", seed=3, threads=1)

    def rows(count: int) -> list[dict[str, Any]]:
        if task == "text-regression":
            return nearness(count, seed=0)
        if task == "token-classification":
            return places(count, seed=0)
        words = ["red", "green", "blue", "loud"]
        drawn = np.random.default_rng(0).random((count, 4)) < 0.4
        return [
            {"text": f"{n} " + " ".join(np.array(words)[row]), "labels": list(np.array(words)[row])}
            for n, row in enumerate(drawn)
        ]

    live = _live(request("old", rows(60)), small_backbone)
    found, _ = _compared(request("new", rows(120)), live, small_backbone)
    # Values are on each file's own scale: what was recorded of them cannot be summed up with new answers.
    assert (50 <= found.rows <= 60) if task == "text-regression" else (found.rows == 120)
    assert (found.seen, found.problem) == (False, "")
    again, _ = _compared(request("again", rows(60)), live, small_backbone)
    assert again.rows == 60
    assert again.seen is (task == "text-regression")
    if task != "text-regression":
        assert again.gain == 0.0


@pytest.mark.slow
def test_a_live_version_that_reads_other_words_is_compared(small_backbone: TextBackbone, tmp_path: Path) -> None:
    """A hyphen inside one span, and every span from then on is told from pieces of what stands between spaces."""

    def request(name: str, rows: list[dict[str, Any]]) -> TrainRequest:
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        source = DatasetSource(path, "jsonl", {column: column for column in rows[0]})
        return TrainRequest(source, "token-classification", tmp_path / name, strategy="head", seed=3, threads=1)

    whole = places(60, seed=0)
    live = _live(request("old", whole), small_backbone)
    cut = [{"text": "A Rome-based firm", "spans": [{"start": 2, "end": 6, "label": "city"}]}]
    new = request("new", [*places(120, seed=0), *cut])
    found, _ = _compared(new, live, small_backbone)
    read = [read_artifact(folder).manifest.windowing for folder in (live.folder, new.output_dir / "head")]
    assert [windowing.words for windowing in read if windowing] == ["joined", "apart"]
    assert (found.rows >= 120, found.seen, found.problem) == (True, False, "")
    # Both know the places well: in the other one's words the live version would find nothing.
    assert abs(found.gain) < 0.3


def test_labels_that_only_one_side_knows_do_not_count(small_backbone: TextBackbone, tmp_path: Path) -> None:
    def request(name: str, labels: list[str]) -> TrainRequest:
        generator = np.random.default_rng(0)
        rows = [
            {"text": f"{n} " + " ".join(chosen), "labels": chosen}
            for n in range(80)
            if (chosen := [label for label in labels if generator.random() < 0.5])
        ]
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        source = DatasetSource(path, "jsonl", {"text": "text", "labels": "labels"})
        return TrainRequest(source, "multi-label-classification", tmp_path / name, strategy="head", threads=1)

    live = _live(request("old", ["red", "green", "blue"]), small_backbone)
    found, decision = _compared(request("new", ["red", "green", "loud"]), live, small_backbone)
    assert (found.labels_lost, found.labels_added) == (("blue",), ("loud",))
    assert found.rows > 0
    assert not decision.promoted


def test_a_record_finds_rows_by_input_and_by_target(tmp_path: Path) -> None:
    nan = float("nan")
    keys = np.array([1, 2, 3, 2], dtype=np.uint64)
    parts = np.array([[1, 1], [nan, nan], [0, 1], [1, 1]], dtype=np.float32)
    row_record.write(RowRecord(keys, keys + np.uint64(10), parts), tmp_path / "rows")
    found = row_record.read(tmp_path / "rows")
    assert found is not None
    assert found.contains(np.array([3, 9, 1], dtype=np.uint64)).tolist() == [True, False, True]
    answers = found.answers(np.array([13, 12, 99, 11], dtype=np.uint64))
    assert np.nan_to_num(answers, nan=-1).tolist() == [[0, 1], [1, 1], [-1, -1], [1, 1]]
    assert np.isnan(found.without_answers().answers(np.array([13], dtype=np.uint64))).all()
    (tmp_path / "rows").write_bytes(b"damaged")
    assert row_record.read(tmp_path / "rows") is None


def test_comparison_and_live_version_cross_a_process_boundary(make_request: RequestFactory, some: Rows) -> None:
    request = replace(make_request(some), live=LiveVersion(3, Path("/somewhere")))
    assert TrainRequest.from_dict(json.loads(json.dumps(request.to_dict()))) == request
    compared = LiveComparison(3, rows=9, labels_lost=("a",), labels_added=("b", "c"))
    finished = Finished("head", {}, 1, 2, 3.0, comparison=compared)
    assert from_dict(json.loads(json.dumps(to_dict(finished)))) == finished
