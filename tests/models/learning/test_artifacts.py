from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.learning import artifacts
from models.learning.artifacts import Artifact
from models.learning.errors import CorruptArtifact


@pytest.fixture
def artifact() -> Artifact:
    return Artifact(
        task="text-classification",
        strategy="head",
        labels=("ä", "b"),
        features=("mean.6",),
        base="minilm",
        base_revision="abc",
        temperature=1.5,
        thresholds=None,
        tensors={"head.weight": torch.randn(2, 384), "head.bias": torch.zeros(2)},
        details={"lora_rank": 0},
    )


def test_round_trip(artifact: Artifact, tmp_path: Path) -> None:
    artifacts.write(artifact, tmp_path)
    found = artifacts.read(tmp_path)
    assert replace(found, tensors={}) == replace(artifact, tensors={})
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in artifact.tensors.items())


def test_same_artifact_same_bytes(artifact: Artifact, tmp_path: Path) -> None:
    assert artifacts.write(artifact, tmp_path / "a") == artifacts.write(artifact, tmp_path / "b")


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _manifest(folder: Path, **changes: object) -> None:
    manifest = json.loads((folder / artifacts.MANIFEST).read_text())
    (folder / artifacts.MANIFEST).write_text(json.dumps({**manifest, **changes}))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: _flip(folder / artifacts.WEIGHTS),
        lambda folder: (folder / artifacts.WEIGHTS).unlink(),
        lambda folder: (folder / artifacts.MANIFEST).unlink(),
        lambda folder: (folder / artifacts.MANIFEST).write_text("{"),
        lambda folder: _manifest(folder, format=99),
        lambda folder: _manifest(folder, labels=["a", "b", "c"]),
        lambda folder: _manifest(folder, files={}),
    ],
    ids=["bit flipped", "no weights", "no manifest", "half a manifest", "other format", "other labels", "no hash"],
)
def test_damage_is_refused(artifact: Artifact, tmp_path: Path, damage: object) -> None:
    artifacts.write(artifact, tmp_path)
    damage(tmp_path)  # type: ignore[operator]
    with pytest.raises(CorruptArtifact):
        artifacts.read(tmp_path)
