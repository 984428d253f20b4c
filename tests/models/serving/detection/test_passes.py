from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models.artifacts.folder import Artifact, read_artifact, write_artifact
from models.artifacts.manifest import Manifest
from models.artifacts.parts import BlockWeights, DetectorWeights
from models.backbones import loading, maps
from models.backbones.media import MediaBackbone
from models.datasets.examples import Media
from models.learning.detection.canvas import Canvas
from models.learning.detection.network import Detector, Layout
from models.services.catalog import ResolvedVersion
from models.serving.detection import passes
from models.serving.detection.adapter import DetectionAdapter
from models.serving.detection.assembly import assemble
from models.serving.errors import ArtifactBroken
from tests.device import DEVICE
from tests.models.backbones import media_checkpoints
from tests.models.datasets.media_files import picture

VERSION = ResolvedVersion("cus_1", "mod_1", "m", "ft:resnet:acme:m", 1, "p/", "sha", "resnet", "object-detection")
CANVAS = Canvas(64, 96)
# Pixels, and scores: how far a picture's neighbours in a batch may move its boxes.
NEAR = 1e-2, 1e-4


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> MediaBackbone:
    entry = media_checkpoints.write(tmp_path_factory.mktemp("resnet"), "resnet")
    found: Any = loading.load(entry, device=DEVICE, precision="fp32", threads=1)
    return found


@pytest.fixture
def make(base: MediaBackbone, tmp_path: Path) -> Callable[..., DetectionAdapter]:
    """Write, read and assemble a version with weights of its own."""

    def build(seed: int, *, canvas: Canvas = CANVAS, **changes: Any) -> DetectionAdapter:
        artifact = _artifact(base, seed, canvas)
        artifact = replace(artifact, manifest=replace(artifact.manifest, **changes.pop("manifest", {})))
        artifact = replace(artifact, parts=(*artifact.parts, *changes.pop("parts", ())))
        folder = tmp_path / f"{seed}-{canvas.height}"
        write_artifact(artifact, folder)
        return assemble(read_artifact(folder), VERSION, base)

    return build


def _detector(base: MediaBackbone, seed: int) -> Detector:
    detector = Detector(Layout(maps.levels(base)[1:], labels=2, channels=32))
    detector.reset(torch.Generator().manual_seed(seed))
    with torch.no_grad():
        detector.label.get_parameter("weight").mul_(200)  # something to find
    return detector


def _artifact(base: MediaBackbone, seed: int, canvas: Canvas) -> Artifact:
    detector = _detector(base, seed)
    details = {"detection": {**detector.layout.as_details(), "canvas": list(canvas.shape)}}
    manifest = Manifest(
        "object-detection", "head", ("cat", "dog"), (), "resnet", base.revision, thresholds=(0.3,), details=details
    )
    return Artifact(manifest, (DetectorWeights(detector.state_dict()),))


def _rows(*seeds: int) -> list[passes.PictureRow]:
    return passes.tokenize(None, [Media("x.png", picture("PNG", size=(120, 90), seed=seed)) for seed in seeds])


def _close(one: np.ndarray, other: np.ndarray) -> bool:
    return (
        one.shape == other.shape
        and np.allclose(one[:, :4], other[:, :4], atol=NEAR[0])
        and np.allclose(one[:, 4:], other[:, 4:], atol=NEAR[1])
    )


def test_neighbours_change_nothing(base: MediaBackbone, make: Callable[..., DetectionAdapter]) -> None:
    """Pictures of three versions in one pass, on two canvases, are answered as each of them alone."""
    one, other, wide = make(1), make(2), make(3, canvas=Canvas(64, 128))
    rows, adapters = _rows(0, 1, 2, 0, 1), [one, other, one, other, wide]
    together = passes.answer(base, rows, adapters)
    for row, adapter, output in zip(rows, adapters, together, strict=True):
        (alone,) = passes.answer(base, [row], [adapter])
        assert len(alone) > 3
        assert _close(alone, output)
    assert not _close(together[0], together[3])  # each has its own detector


def test_what_is_loaded_answers_like_what_was_saved(base: MediaBackbone, make: Callable[..., DetectionAdapter]) -> None:
    loaded = make(4)
    saved = replace(loaded, detector=_detector(base, 4).to(base.device))
    rows = _rows(5, 6)
    for one, other in zip(passes.answer(base, rows, [loaded] * 2), passes.answer(base, rows, [saved] * 2), strict=True):
        assert np.array_equal(one, other)


def test_boxes_are_in_the_pixels_of_the_upright_picture(
    base: MediaBackbone, make: Callable[..., DetectionAdapter]
) -> None:
    """A picture that is stored lying, with an orientation beside it, is answered like the upright one."""
    upright = Image.open(io.BytesIO(picture("PNG", size=(80, 120), seed=3)))
    lying, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # turn it to the right to see it
    upright.transpose(Image.Transpose.ROTATE_90).save(lying, "PNG", exif=exif)
    plain = io.BytesIO()
    upright.save(plain, "PNG")
    rows = passes.tokenize(None, [Media("a.png", data.getvalue()) for data in (plain, lying)])
    assert [row.size for row in rows] == [(80, 120)] * 2
    one, other = passes.answer(base, rows, [make(1)] * 2)
    assert _close(one, other)
    assert (one[:, :4] >= 0).all()
    assert (one[:, :4] <= [80, 120, 80, 120]).all()


def test_blocks_of_its_own_take_the_place_of_the_bases(
    base: MediaBackbone, make: Callable[..., DetectionAdapter]
) -> None:
    last = max(level.depth for level in maps.levels(base)) - 1
    changed = {name: tensor * 1.5 for name, tensor in base.encoder.blocks[last].state_dict().items()}
    own = make(1, parts=(BlockWeights({last: changed}),))
    rows = _rows(0)
    assert own.network is not None
    assert own.nbytes > make(1).nbytes
    assert not _close(passes.answer(base, rows, [own])[0], passes.answer(base, rows, [make(1)])[0])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"base_revision": "0" * 64}, "revision 000000000000"),
        ({"labels": ("cat",)}, "outputs not those of its labels"),
        ({"details": {}}, "detection"),
    ],
)
def test_a_version_that_does_not_fit_is_broken(
    make: Callable[..., DetectionAdapter], changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ArtifactBroken, match=reason):
        make(1, manifest=changes)
