"""Bases whose blocks take more than a hidden state: a job on each learns, and its version answers as learning says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.artifacts.folder import read_artifact
from models.artifacts.parts import BlockWeights, EmbeddingWeights, LowRankWeights
from models.backbones import loading
from models.backbones.registry import BackboneEntry
from models.datasets.reading import read
from models.datasets.validation import Limits, inspect
from models.learning.contract.events import VersionReady
from models.learning.contract.request import DatasetSource, Hyperparameters, Strategy, TrainRequest
from models.learning.training import train
from models.services.catalog import ResolvedVersion
from models.serving.adapters.adapter import embedding_adapter
from models.serving.adapters.assembly import assemble
from models.serving.encoders.input_modes import tokenize
from models.serving.encoders.passes import answer
from tests.device import DEVICE
from tests.models.backbones import media_checkpoints, text_checkpoints
from tests.models.datasets.media_files import archive, sound, stripes
from tests.models.learning import inference


def _letters(folder: Path) -> Path:
    generator = np.random.default_rng(0)
    rows = [
        {"text": " ".join(generator.choice(list(letters), 4 + 3 * (n % 5))), "label": letters}
        for n in range(16)
        for letters in ("abcdef", "uvwxyz")
    ]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _pictures(folder: Path) -> Path:
    members = {f"{label}/{n}.png": stripes(label, n) for label in ("wide", "narrow") for n in range(16)}
    path = folder / "stripes.zip"
    path.write_bytes(archive(members))
    return path


def _sounds(folder: Path) -> Path:
    """Noise of few and of many frequencies; some sounds are longer than a window."""
    members = {
        f"{label}/{n}.wav": sound(seconds=0.3 + 0.2 * (n % 5), rate=rate, seed=n)
        for label, rate in (("low", 4_000), ("high", 16_000))
        for n in range(16)
    }
    path = folder / "sounds.zip"
    path.write_bytes(archive(members))
    return path


def _media(name: str) -> Callable[[Path], BackboneEntry]:
    return lambda folder: media_checkpoints.write(folder, name)


BASES: dict[str, tuple[Callable[[Path], BackboneEntry], Callable[[Path], Path], str]] = {
    "modernbert": (text_checkpoints.write_modern, _letters, "text-classification"),
    "dinov3": (_media("dinov3"), _pictures, "image-classification"),
    "whisper": (_media("whisper"), _sounds, "audio-classification"),
}
PARTS = {"lora": LowRankWeights, "partial": BlockWeights, "full": EmbeddingWeights}
# One strategy of each in the quick run.
QUICK = {"modernbert": "lora", "dinov3": "partial", "whisper": "partial"}
CASES = [
    pytest.param(base, strategy, marks=() if QUICK[base] == strategy else pytest.mark.slow)
    for base in BASES
    for strategy in PARTS
]


@pytest.mark.parametrize(("base", "strategy"), CASES)
def test_a_job_learns_and_its_version_answers(tmp_path: Path, base: str, strategy: Strategy) -> None:
    write, data, task = BASES[base]
    backbone = loading.load(write(tmp_path / "base"), device=DEVICE, precision="fp32", threads=1)
    path = data(tmp_path)
    found = inspect(path, filename=path.name, limits=Limits())
    source = DatasetSource(path, found.format, found.columns)
    asked = Hyperparameters(
        n_epochs=1, batch_size=8, lora_rank=2, trainable_blocks=1 if strategy == "partial" else "auto"
    )
    request = TrainRequest(source, task, tmp_path / "out", strategy=strategy, hyperparameters=asked, threads=1)
    versions = [event for event in train(request, backbone, stop=lambda: False) if isinstance(event, VersionReady)]
    assert [version.name for version in versions] == ["head", strategy]
    rows = list(read(path, format=found.format, task=task, columns=found.columns))
    for version in versions:
        artifact = read_artifact(version.artifact_dir)
        assert (artifact.find(PARTS[strategy]) is not None) == (version.name == strategy)
        inputs: list[Any] = [row.input for row in rows]
        expected = inference.predict(artifact, backbone, inputs)
        right = np.mean([one["label"] == row.target for one, row in zip(expected, rows, strict=True)])
        assert right >= 0.7  # of two labels; one epoch from random weights was seen to end at 0.81
        resolved = ResolvedVersion("cus_1", "mod_1", "m", f"ft:{base}:acme:m", 1, "p/", "0" * 64, base, task)
        adapter = assemble(artifact, resolved, backbone)
        every = [adapter] * len(inputs)
        outputs = np.stack(answer(backbone, tokenize(backbone, inputs, [adapter.input_mode] * len(inputs)), every))
        labels = [artifact.manifest.labels[place] for place in outputs.argmax(1)]
        assert labels == [one["label"] for one in expected]
        np.testing.assert_allclose(outputs.max(1), [one["score"] for one in expected], atol=1e-4)


@pytest.mark.parametrize("task", ["text-classification", "token-classification"])
def test_short_texts_are_not_padded_to_a_long_one_of_the_pass(tmp_path: Path, task: str) -> None:
    backbone = loading.load(text_checkpoints.write_modern(tmp_path), device=DEVICE, precision="fp32", threads=1)
    backbone.token_budget = 48
    depth, word = backbone.blocks, task == "token-classification"
    adapter = replace(embedding_adapter(depth), features=(f"word.{depth}",) if word else (f"mean.{depth}",))
    adapter = replace(adapter, input_mode="words" if word else "whole")
    texts = [
        "ab",
        "a long text of fifty letters and some more, ab",
        "c",
        "defg hi",
        "another long text of many letters",
        "j",
    ]
    sizes: list[int] = []
    collate = backbone.collate
    backbone.collate = lambda rows: sizes.append(len(rows)) or collate(rows)  # type: ignore[method-assign,func-returns-value]
    together = answer(backbone, tokenize(backbone, texts, [adapter.input_mode] * len(texts)), [adapter] * len(texts))
    assert sorted(sizes) == [1, 1, 4]
    for text, output in zip(texts, together, strict=True):
        (alone,) = answer(backbone, tokenize(backbone, [text], [adapter.input_mode]), [adapter])
        np.testing.assert_allclose(output, alone, atol=1e-5)
