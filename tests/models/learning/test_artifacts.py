from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.artifacts.folder import MANIFEST, WEIGHTS, Artifact, read_artifact, write_artifact
from models.learning.contract.errors import CorruptArtifact


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
    write_artifact(artifact, tmp_path)
    found = read_artifact(tmp_path)
    assert replace(found, tensors={}) == replace(artifact, tensors={})
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in artifact.tensors.items())


def test_same_artifact_same_bytes(artifact: Artifact, tmp_path: Path) -> None:
    assert write_artifact(artifact, tmp_path / "a") == write_artifact(artifact, tmp_path / "b")


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _manifest(at: Path, **changes: object) -> None:
    manifest = json.loads((at / MANIFEST).read_text())
    (at / MANIFEST).write_text(json.dumps({**manifest, **changes}))


@pytest.mark.parametrize(
    "damage",
    [
        lambda at: _flip(at / WEIGHTS),
        lambda at: (at / WEIGHTS).unlink(),
        lambda at: (at / MANIFEST).unlink(),
        lambda at: (at / MANIFEST).write_text("{"),
        lambda at: _manifest(at, format=99),
        lambda at: _manifest(at, labels=["a", "b", "c"]),
        lambda at: _manifest(at, files={}),
    ],
    ids=["bit flipped", "no weights", "no manifest", "half a manifest", "other format", "other labels", "no hash"],
)
def test_damage_is_refused(artifact: Artifact, tmp_path: Path, damage: object) -> None:
    write_artifact(artifact, tmp_path)
    damage(tmp_path)  # type: ignore[operator]
    with pytest.raises(CorruptArtifact):
        read_artifact(tmp_path)
