"""What only the end of a long text says is learned, found, and answered alike after the version was stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.artifacts.folder import Artifact, read_artifact
from models.backbones.text import TextBackbone
from models.datasets.windowing import windowing_of
from models.learning.contract.events import Finished, VersionReady
from models.learning.contract.request import DatasetSource, TrainRequest
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
            pytest.param(strategy, {"lexical": False, "n_epochs": 2, "lora_rank": 2}, marks=pytest.mark.slow)
            for strategy in ("lora", "partial", "full", "scratch")
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
