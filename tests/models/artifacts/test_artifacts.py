from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.artifacts.errors import CorruptArtifact
from models.artifacts.folder import Artifact, read_artifact, write_artifact
from models.artifacts.manifest import MANIFEST, WEIGHTS, Manifest
from models.artifacts.parts import (
    BlockWeights,
    EmbeddingWeights,
    HeadWeights,
    LowRankWeights,
    NgramWeights,
    is_finite,
    pack,
    unpack,
)

_LOW_RANK = LowRankWeights({(3, "attention.self.query"): (torch.randn(2, 8), torch.randn(8, 2))})
_NGRAMS = NgramWeights(
    torch.arange(3, dtype=torch.int32), torch.ones(3), torch.ones(3, 2, dtype=torch.float16), torch.tensor([0.5])
)
_BLOCKS = BlockWeights({4: {"output.dense.weight": torch.randn(3, 3)}, 5: {"output.dense.weight": torch.randn(3, 3)}})


@pytest.fixture
def artifact() -> Artifact:
    manifest = Manifest(
        task="text-classification",
        strategy="head",
        labels=("ä", "b"),
        features=("mean.6",),
        base="minilm",
        base_revision="abc",
        temperature=1.5,
        details={"lora_rank": 0},
    )
    return Artifact(manifest, (HeadWeights(torch.randn(2, 384), torch.zeros(2)),))


def test_round_trip(artifact: Artifact, tmp_path: Path) -> None:
    write_artifact(artifact, tmp_path)
    found = read_artifact(tmp_path)
    assert found.manifest == artifact.manifest
    assert found.tensors.keys() == artifact.tensors.keys()
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in artifact.tensors.items())


def test_only_a_version_with_a_scale_is_of_the_second_format(artifact: Artifact, tmp_path: Path) -> None:
    """An earlier release, which reads the first alone, would answer values on another scale."""
    write_artifact(artifact, tmp_path / "labels")
    plain = json.loads((tmp_path / "labels" / MANIFEST).read_text())
    assert (plain["format"], "scale" in plain) == (1, False)
    scaled = replace(artifact.manifest, scale=(1.7e9 + 0.1, 1e-200))
    write_artifact(Artifact(scaled, artifact.parts), tmp_path / "values")
    assert json.loads((tmp_path / "values" / MANIFEST).read_text())["format"] == 2
    assert read_artifact(tmp_path / "values").manifest == scaled


def test_every_part_comes_back_as_it_was() -> None:
    parts = (_NGRAMS, _LOW_RANK, _BLOCKS, EmbeddingWeights({"LayerNorm.weight": torch.ones(3)}))
    tensors = pack(parts)
    assert sorted(tensors) == [
        "block.4.output.dense.weight",
        "block.5.output.dense.weight",
        "embeddings.LayerNorm.weight",
        "lexical.buckets",
        "lexical.factor",
        "lexical.idf",
        "lexical.weight",
        "lora.3.attention.self.query.A",
        "lora.3.attention.self.query.B",
    ]
    found = unpack(tensors)
    assert [type(part) for part in found] == [type(part) for part in parts]
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in pack(found).items())
    assert is_finite(found)
    assert not is_finite([HeadWeights(torch.tensor([[1.0]]), torch.tensor([torch.inf]))])


def test_same_artifact_same_bytes(artifact: Artifact, tmp_path: Path) -> None:
    assert write_artifact(artifact, tmp_path / "a") == write_artifact(artifact, tmp_path / "b")


def test_large_weights_are_mapped_and_say_the_same(artifact: Artifact, tmp_path: Path) -> None:
    published = write_artifact(artifact, tmp_path)
    mapped = read_artifact(tmp_path, manifest_sha256=published, map_bytes=1)
    assert torch.equal(mapped.require(HeadWeights).weight_KF, artifact.require(HeadWeights).weight_KF)
    assert mapped.find(LowRankWeights) is None
    with pytest.raises(CorruptArtifact, match="'lora' is missing"):
        mapped.require(LowRankWeights)


def test_another_version_in_its_place_is_refused(artifact: Artifact, tmp_path: Path) -> None:
    write_artifact(artifact, tmp_path)
    with pytest.raises(CorruptArtifact, match="not the one that was published"):
        read_artifact(tmp_path, manifest_sha256="0" * 64)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _manifest(at: Path, **changes: object) -> None:
    manifest = json.loads((at / MANIFEST).read_text())
    (at / MANIFEST).write_text(json.dumps({**manifest, **changes}))


@pytest.mark.parametrize("map_bytes", [None, 1], ids=["read", "mapped"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda at: _flip(at / WEIGHTS),
        lambda at: (at / WEIGHTS).unlink(),
        lambda at: (at / MANIFEST).unlink(),
        lambda at: (at / MANIFEST).write_text("{"),
        lambda at: (at / MANIFEST).write_text("[]"),
        lambda at: _manifest(at, format=99),
        lambda at: _manifest(at, labels=None),
        lambda at: _manifest(at, files={}),
    ],
    ids=["flipped", "no weights", "no manifest", "half", "a list", "other format", "no labels", "no hash"],
)
def test_damage_is_refused(artifact: Artifact, tmp_path: Path, damage: object, map_bytes: int | None) -> None:
    write_artifact(artifact, tmp_path)
    damage(tmp_path)  # type: ignore[operator]
    with pytest.raises(CorruptArtifact):
        read_artifact(tmp_path, map_bytes=map_bytes)


@pytest.mark.parametrize(
    "tensors",
    [
        {"head.weight": torch.ones(2, 3)},
        {"head.weight": torch.ones(2, 3), "head.bias": torch.ones(3)},
        {"wings.weight": torch.ones(2)},
        {"lora.3.attention.self.query.A": torch.ones(2, 3)},
        {"block.top.weight": torch.ones(2)},
    ],
    ids=["half a head", "a head of two sizes", "an unknown part", "half a pair", "a block without number"],
)
def test_tensors_that_belong_to_no_part_are_refused(tensors: dict[str, torch.Tensor]) -> None:
    with pytest.raises((KeyError, ValueError)):
        unpack(tensors)
