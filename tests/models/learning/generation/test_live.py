"""A new version that writes beside the live one: on which rows, what is said, and what goes live by it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.learning import training
from models.learning.contract.comparison import ROWS_FILE, LiveVersion
from models.learning.contract.events import Finished
from models.learning.contract.request import DatasetSource, TrainRequest
from models.learning.data import row_record
from models.learning.data.corpus import read_training
from models.learning.tasks.text_generation import TextGeneration
from models.services.promotion import Live, NewVersion, decide
from tests.models.learning.generation.conftest import Ask, chat, colours

FAST = {"learning_rate": 5e-3, "n_epochs": 3, "batch_size": 4}
ROWS = 40


def _finish(request, writer):
    *_, finished = training.train(request, writer, stop=lambda: False)
    assert isinstance(finished, Finished)
    return finished


@pytest.fixture(scope="module")
def published(ask_in: Ask, writer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of a version with low-rank matrices."""
    request = ask_in(tmp_path_factory.mktemp("published"), colours(ROWS), "lora", **FAST)
    return request.output_dir / _finish(request, writer).best


@pytest.fixture
def live(published: Path, tmp_path: Path) -> LiveVersion:
    """That version, in a copy that a test may damage."""
    return LiveVersion(1, Path(shutil.copytree(published, tmp_path / "live")))


def _compared(request, live, writer):
    finished = _finish(replace(request, live=live), writer)
    assert finished.comparison is not None
    new = NewVersion(2, finished.report["data"]["rows"], finished.report["score"], None)
    return finished.comparison, decide("auto", new, Live(1, ROWS), finished.comparison)


def _keys(request):
    corpus, *_ = read_training(request.training, TextGeneration(), request.hyperparameters.rare())
    return corpus.input_keys_N


@pytest.mark.slow
def test_the_same_version_again_is_not_better(live, ask, writer):
    found, decision = _compared(ask(colours(ROWS), "lora", **FAST), live, writer)
    assert (found.rows, found.seen, found.gain) == (4, False, pytest.approx(0.0, abs=1e-6))
    assert found.metric == "token_probability"
    assert not decision.promoted
    assert "not on more data" in decision.reason


def test_what_is_worse_does_not_go_live_and_what_is_better_does(live, ask, writer, tmp_path):
    request = ask(colours(ROWS), "zero-shot")
    worse, decision = _compared(request, live, writer)
    assert worse.score < worse.live_score
    assert not decision.promoted
    assert "seems worse" in decision.reason
    base = LiveVersion(1, request.output_dir / "zero-shot")
    better, decision = _compared(replace(ask(colours(ROWS), "lora", **FAST), output_dir=tmp_path / "o"), base, writer)
    assert (better.live_score, better.score) == (pytest.approx(worse.score), pytest.approx(worse.live_score, abs=1e-3))
    assert decision.promoted, decision.reason


def test_of_a_file_that_has_grown_only_rows_count_that_the_live_version_did_not_learn(live, ask, writer):
    request = ask(colours(4 * ROWS), "zero-shot", seed=7)
    found, _ = _compared(request, live, writer)
    learned = row_record.read(live.folder / ROWS_FILE)
    assert learned is not None
    assert len(learned.input_keys_N) == ROWS - 4
    keys = set(_keys(request).tolist())
    assert set(learned.input_keys_N.tolist()) <= keys
    assert found.seen is False
    assert 8 <= found.rows <= 16


def test_rows_that_it_may_know_are_taken_where_there_are_too_few_others(live, ask, writer):
    request = ask(colours(ROWS), "zero-shot")
    keys = _keys(request)
    everything = row_record.RowRecord(keys, keys, np.full((len(keys), 1), np.nan, dtype=np.float32))
    row_record.write(everything, live.folder / ROWS_FILE)
    manifest = json.loads((live.folder / "manifest.json").read_bytes())
    del manifest["files"][ROWS_FILE]  # as in versions of before
    (live.folder / "manifest.json").write_text(json.dumps(manifest))
    found, decision = _compared(request, live, writer)
    assert (found.rows, found.seen) == (4, True)
    assert "may have been trained" in decision.reason


def test_a_version_that_cannot_answer_is_replaced(live, ask, writer):
    (live.folder / "weights.safetensors").write_bytes(b"nothing")
    found, decision = _compared(ask(colours(ROWS), "zero-shot"), live, writer)
    assert found.broken
    assert decision.promoted


def test_examples_of_a_live_prompt_are_not_compared_on(ask, writer, tmp_path):
    first = ask(colours(ROWS), "few-shot")
    prompted = LiveVersion(1, first.output_dir / _finish(first, writer).best)
    record = row_record.read(prompted.folder / ROWS_FILE)
    assert record is not None
    assert 1 <= len(record.input_keys_N) <= 5
    found, _ = _compared(replace(ask(colours(ROWS), "zero-shot"), output_dir=tmp_path / "o"), prompted, writer)
    assert (found.rows, found.seen, found.problem) == (4, False, "")


def test_rows_that_ask_the_same_are_held_out_together(ask, writer):
    rows = [chat(f"n{number // 2}", f"{'abc'[number % 3] * 3}{number}") for number in range(80)]
    report = _finish(ask(rows, "zero-shot"), writer).report
    assert report["data"]["held_out_rows"] == 8
    few = [chat(f"n{number % 2}", f"{'abc'[number % 3] * 3}{number}") for number in range(80)]
    assert _finish(ask(few, "zero-shot"), writer).report["data"]["held_out_rows"] == 8


def test_texts_of_a_validation_file_are_new_unless_they_are_the_same(writer, tmp_path):
    def source(name, texts):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
        return DatasetSource(path, "jsonl", {"text": "text"}, name)

    texts = [f"{'abc'[number % 3] * 5} {number} times" for number in range(20)]
    others = [f"{'abc'[number % 3] * 5} {number} more" for number in range(8)]
    request = TrainRequest(
        source("training", texts), "text-generation", tmp_path / "output", "tiny-writer",
        validation=source("validation", [*others, *texts[:3]]), strategy="zero-shot",
    )  # fmt: skip
    data = _finish(request, writer).report["data"]
    assert (data["held_out_rows"], data["validation_rows_in_training"]) == (8, 3)


def test_what_is_worse_than_the_base_is_told_so():
    new = NewVersion(2, 10, 0.2, 0.3, "the base model as it is")
    decision = decide("auto", new, None, None)
    assert (decision.promoted, "below the 0.300 of the base model as it is" in decision.reason) == (False, True)
