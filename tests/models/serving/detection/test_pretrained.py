"""Versions of a base that is a detector, as they are served."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.artifacts.folder import Artifact, read_artifact, write_artifact
from models.artifacts.manifest import Manifest
from models.artifacts.parts import DetectorWeights
from models.backbones import loading
from models.backbones.detector import DetectorBackbone
from models.datasets.examples import Media
from models.learning.detection import answers
from models.learning.detection.canvas import Canvas, fit
from models.learning.detection.model import PIXELS
from models.learning.detection.pretrained import PretrainedModel
from models.services.catalog import ResolvedVersion
from models.serving.detection import passes
from models.serving.detection.adapter import DetectionAdapter
from models.serving.detection.assembly import assemble
from models.serving.errors import ArtifactBroken
from tests.device import DEVICE
from tests.models.backbones import detector_checkpoints
from tests.models.datasets.media_files import picture

VERSION = ResolvedVersion("cus_1", "mod_1", "m", "ft:rt_detr:acme:m", 1, "p/", "sha", "rt_detr", "object-detection")
CANVAS = Canvas(64, 96)
SIZE = (120, 90)

Build = Callable[..., tuple[PretrainedModel, DetectionAdapter]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> DetectorBackbone:
    entry = detector_checkpoints.write(tmp_path_factory.mktemp("rt_detr"), "rt_detr")
    found: Any = loading.load(entry, device=DEVICE, precision="fp32", threads=1)
    return found


@pytest.fixture
def build(base: DetectorBackbone, tmp_path: Path) -> Build:
    """Write, read and assemble a version whose trained parameters were moved a little."""

    def make(seed: int, names: tuple[str, ...], labels: int = 2, **changes: Any) -> tuple[Any, DetectionAdapter]:
        model = PretrainedModel(base, labels, names, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, value in model.values.items():
                value.add_(0.1 * torch.randn(value.shape, generator=generator).to(value.device))
                if "class_embed" in name and value.dim() == 1:
                    value.add_(4.0)  # something to find
        details = {"detection": {**model.details(), "canvas": list(CANVAS.shape)}}
        manifest = Manifest(
            "object-detection", "full", ("cat", "dog"), (), "rt_detr", base.revision, thresholds=(0.3,), details=details
        )
        write_artifact(Artifact(replace(manifest, **changes), model.parts()), tmp_path / str(seed))
        return model, assemble(read_artifact(tmp_path / str(seed)), VERSION, base)

    return make


def _rows(*seeds: int) -> list[passes.PictureRow]:
    return passes.tokenize(None, [Media("x.png", picture("PNG", size=SIZE, seed=seed)) for seed in seeds])


def test_what_is_loaded_answers_like_what_was_trained(base: DetectorBackbone, build: Build) -> None:
    model, adapter = build(1, base.trainable)
    rows = _rows(5, 6)
    pixels_BHW3 = np.stack([passes._draw(row, CANVAS) for row in rows])
    trained = model.forward({PIXELS: base.reader.scale(pixels_BHW3).to(base.device)})
    expected = answers.read(trained, [fit(SIZE, CANVAS)] * 2, [SIZE] * 2)
    for one, other in zip(passes.answer(base, rows, [adapter] * 2), expected, strict=True):
        assert len(one) > 0
        np.testing.assert_allclose(one, other, rtol=1e-5)  # kernels round by where tensors lie
        assert (one[:, :4] >= 0).all()
        assert (one[:, :4] <= [*SIZE, *SIZE]).all()


def test_versions_share_a_pass_and_what_they_did_not_train(base: DetectorBackbone, build: Build) -> None:
    """Each answers its own rows; one whose heads alone were trained weighs little beside the base."""
    (_, heads), (_, whole) = build(1, base.heads), build(2, base.trainable)
    rows, adapters = _rows(0, 1, 0, 1), [heads, whole, whole, heads]
    together = passes.answer(base, rows, adapters)
    for row, adapter, output in zip(rows, adapters, together, strict=True):
        (alone,) = passes.answer(base, [row], [adapter])
        assert len(alone) > 0
        assert alone.shape == output.shape
        assert np.allclose(alone, output, atol=1e-2)
    assert not np.array_equal(together[0], together[2])
    trained = sum(tensor.nbytes for tensor in base.network.parameters())
    assert whole.nbytes - heads.nbytes > 0.7 * trained


@pytest.mark.parametrize(
    ("labels", "changes", "reason"),
    [
        (2, {"base_revision": "0" * 64}, "revision 000000000000"),
        (3, {}, "outputs are not those of its labels"),
        (2, {"details": {"detection": {"labels": 2}}}, "canvas"),
    ],
)
def test_a_version_that_does_not_fit_is_broken(
    base: DetectorBackbone, build: Build, labels: int, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ArtifactBroken, match=reason):
        build(1, base.heads, labels, **changes)


def test_parameters_of_another_base_are_refused(base: DetectorBackbone, build: Build, tmp_path: Path) -> None:
    build(1, base.heads)
    artifact = read_artifact(tmp_path / "1")
    without = {name: each for name, each in artifact.require(DetectorWeights).state.items() if "score" not in name}
    with pytest.raises(ArtifactBroken, match="enc_score_head"):
        assemble(replace(artifact, parts=(DetectorWeights(without),)), VERSION, base)
