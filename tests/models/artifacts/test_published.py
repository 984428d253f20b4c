"""Versions that were published long ago still answer as they did then. How they were made: `publish.py`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.artifacts.folder import read_artifact
from models.artifacts.parts import NgramWeights
from models.backbones import loading
from models.backbones.backbone import Backbone
from models.datasets.examples import TextPair
from models.datasets.windowing import windowing_of
from tests.models.backbones import text_checkpoints
from tests.models.learning import inference

# Named again, not taken from `publish`: what makes them today does not decide whether they can be read.
PUBLISHED = Path(__file__).parent / "published"
KINDS = {"head-with-terms": "lexical", "lora": "lora", "partial": "block"}
REVISION = "0506e3a3316cc7f65bdc85dc946cabce59dd85953538d5ae558a5eec8227d053"


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    entry = text_checkpoints.describe(PUBLISHED / "base", width=16, blocks=2)
    return loading.load(entry, device="cpu", precision="fp32", threads=1)


def test_the_base_is_still_the_same_base(backbone: Backbone) -> None:
    assert backbone.revision == REVISION


@pytest.mark.parametrize("kind", KINDS)
def test_it_answers_as_it_did(kind: str, backbone: Backbone) -> None:
    artifact = read_artifact(PUBLISHED / kind)
    assert artifact.manifest.base_revision == backbone.revision
    assert {name.partition(".")[0] for name in artifact.tensors} == {"head", KINDS[kind]}
    answers = json.loads((PUBLISHED / kind / "predictions.json").read_text("utf-8"))
    asked = [
        item if isinstance(item := answer["input"], str) else TextPair(item["first"], item["second"])
        for answer in answers
    ]
    said = inference.predict(artifact, backbone, asked, top_k=2)
    for prediction, answer in zip(said, answers, strict=True):
        # A field more is no harm to anybody who reads the ones that were there.
        told = dict(_leaves(prediction))
        for path, value in _leaves(answer["prediction"]):
            assert told[path] == (pytest.approx(value, rel=1e-5, abs=1e-5) if isinstance(value, float) else value), path


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_long_text_it_reads_the_beginning_as_it_did(kind: str, backbone: Backbone) -> None:
    artifact = read_artifact(PUBLISHED / kind)
    assert artifact.manifest.windowing is None
    beginning = ("lovely lamp " * 7)[:80]  # more than 62 letters, each a token: what the base reads at once
    long: list[Any] = [f"{beginning} broken" * 3, f"{beginning} fine" * 2]
    if kind == "partial":
        long = [TextPair(text, text) for text in long]
    artifact = replace(artifact, parts=tuple(part for part in artifact.parts if not isinstance(part, NgramWeights)))
    said = inference.predict(artifact, backbone, long, top_k=2)
    assert said[0] == said[1]
    windowed = replace(artifact, manifest=replace(artifact.manifest, windowing=windowing_of(64)))
    assert inference.predict(windowed, backbone, long, top_k=2)[0] != said[0]


def _leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every number and word of a prediction, and where it is."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(item, (*path, key))
    else:
        yield path, value
