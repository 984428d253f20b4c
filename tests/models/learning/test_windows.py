"""What only the end of a long text says is learned, found, and answered alike after the version was stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models.artifacts.folder import Artifact, read_artifact, write_artifact
from models.backbones.text import TextBackbone
from models.datasets.windowing import windowing_of
from models.learning.comparison.inference import spread_words
from models.learning.contract.comparison import LiveVersion
from models.learning.contract.events import Finished, VersionReady
from models.learning.contract.request import DatasetSource, TrainRequest
from models.learning.data.ragged import Ragged
from models.learning.evaluation import label_issues
from models.learning.training import train
from tests.models.learning import inference

RequestFactory = Callable[..., TrainRequest]


def trained(request: TrainRequest, backbone: TextBackbone) -> tuple[Artifact, dict[str, Any]]:
    """The last version, read back from its folder, and the report."""
    events = list(train(request, backbone, stop=lambda: False))
    end = next(event for event in events if isinstance(event, Finished))
    folder = [event.artifact_dir for event in events if isinstance(event, VersionReady)][-1]
    return read_artifact(folder), end.report


def tails(count: int, *, seed: int) -> list[tuple[str, str]]:
    """Noise that fills the base's 64 tokens, and behind it what the label is about."""
    generator = np.random.default_rng(seed)
    words = ("abc", "bcd", "cde", "def")
    ends = {"digits": "17 4 29 3 58 81 6 92 7", "letters": "xy zu wv yx uz vw zz yu x"}
    found = []
    for at in range(count):
        label = ("digits", "letters")[at % 2]
        noise = " ".join(generator.choice(words, 26))
        found.append((f"{noise} {ends[label]} {ends[label]}", label))
    return found


@pytest.mark.parametrize(
    ("strategy", "asked"),
    [
        ("head", {"lexical": False}),
        ("head", {"lexical": True}),
        *(
            pytest.param(strategy, {"lexical": False, "n_epochs": epochs, "lora_rank": 2}, marks=pytest.mark.slow)
            for strategy, epochs in (("lora", 4), ("partial", 4), ("full", 4))
        ),
    ],
)
def test_a_label_that_only_the_tail_says_is_learned(
    small_backbone: TextBackbone, make_request: RequestFactory, strategy: str, asked: dict[str, Any]
) -> None:
    request = make_request(tails(48, seed=0), strategy=strategy, hyperparameters={"features": "last", **asked})
    artifact, report = trained(request, small_backbone)
    assert artifact.manifest.windowing == windowing_of(small_backbone.entry.max_tokens)
    assert report["data"]["windows"]["texts"] == 48
    assert report["score"] > 0.9
    unseen = tails(16, seed=1)
    said = inference.predict(artifact, small_backbone, [text for text, _ in unseen])
    assert [answer["label"] for answer in said] == [label for _, label in unseen]
    beginnings = replace(artifact, manifest=replace(artifact.manifest, windowing=None))
    blind = [answer["label"] for answer in inference.predict(beginnings, small_backbone, [text for text, _ in unseen])]
    if not asked.get("lexical"):  # n-grams read 2,000 characters even then
        assert blind != [label for _, label in unseen]


def test_a_live_version_of_before_is_compared_as_it_answers(
    small_backbone: TextBackbone, make_request: RequestFactory, tmp_path: Path
) -> None:
    request = make_request(tails(48, seed=0), hyperparameters={"features": "last", "lexical": False})
    artifact, _ = trained(request, small_backbone)
    before = replace(artifact, manifest=replace(artifact.manifest, windowing=None))
    write_artifact(before, tmp_path / "live")
    again = replace(request, output_dir=tmp_path / "again", live=LiveVersion(1, tmp_path / "live"))
    *_, end = train(again, small_backbone, stop=lambda: False)
    assert isinstance(end, Finished)
    assert end.comparison is not None
    assert end.comparison.problem == ""
    assert end.comparison.score > 0.9
    assert end.comparison.live_score < 0.8  # it was trained on the whole texts, and answers about their beginnings


def test_words_that_a_version_of_before_does_not_read_carry_no_span() -> None:
    targets = Ragged.of(np.zeros(5, dtype=np.int64), np.array([3, 2]))
    logits_UK = np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float32)  # of two words of the first row, one of the second
    spread_UK = spread_words(logits_UK, np.array([2, 1]), targets)
    assert spread_UK[[0, 1, 3]].tolist() == logits_UK.tolist()
    assert spread_UK[[2, 4]].argmax(1).tolist() == [0, 0]


def test_rows_that_are_not_read_to_their_end_are_no_label_issues() -> None:
    corpus: Any = SimpleNamespace(targets=np.array([0, 0, 1, 1]), rows=np.arange(4))
    probabilities_NK = np.array([[0.9, 0.1], [0.1, 0.9], [0.1, 0.9], [0.9, 0.1]], dtype=np.float32)
    found = label_issues.find(corpus, probabilities_NK, "ab", truncated_N=np.array([False, False, False, True]))
    assert [each["row"] for each in found] == [1]


def test_a_span_far_behind_the_first_window_is_found_where_it_is(
    small_backbone: TextBackbone, make_request: RequestFactory, tmp_path: Path
) -> None:
    generator = np.random.default_rng(0)

    def row(tokens: int) -> dict[str, Any]:
        noise = " ".join(generator.choice(("abc", "bcd", "cde", "déf"), tokens // 3))
        number = "".join(generator.choice(list("123456789"), 4))
        text = f"{noise} {number} abc"
        start = len(noise) + 1
        return {"text": text, "spans": [{"start": start, "end": start + 4, "label": "number"}]}

    path = tmp_path / "spans.jsonl"
    path.write_text("".join(json.dumps(row(int(generator.integers(30, 300)))) + "\n" for _ in range(24)))
    source = DatasetSource(path, "jsonl", {"text": "text", "spans": "spans"})
    request = replace(make_request(tails(4, seed=0)), training=source, task="token-classification")
    artifact, report = trained(request, small_backbone)
    assert report["score"] > 0.9
    far = row(1_500)
    ((found,),) = [answer["spans"] for answer in inference.predict(artifact, small_backbone, [far["text"]])]
    (wanted,) = far["spans"]
    assert wanted["start"] > 1_500
    assert {name: found[name] for name in wanted} == wanted
    assert found["text"] == far["text"][wanted["start"] : wanted["end"]]
