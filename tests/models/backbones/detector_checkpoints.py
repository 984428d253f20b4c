"""Tiny detectors with random weights, written to a folder as the hub would have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForObjectDetection

from models.backbones.registry import BackboneEntry, FolderSource

_PICTURES = {
    "image_processor_type": "RTDetrImageProcessor", "do_resize": True, "size": {"height": 64, "width": 64},
    "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": False,
}  # fmt: skip
_QUERIES = {
    "encoder_hidden_dim": 32, "encoder_layers": 1, "encoder_ffn_dim": 32, "encoder_attention_heads": 2,
    "hidden_expansion": 0.5, "d_model": 32, "decoder_in_channels": [32, 32, 32], "decoder_ffn_dim": 32,
    "decoder_layers": 2, "decoder_attention_heads": 2, "num_queries": 30, "num_denoising": 10, "num_labels": 5,
}  # fmt: skip
_RESNET = {
    "embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "layer_type": "basic",
    "out_features": ["stage2", "stage3", "stage4"],
}  # fmt: skip
_HGNET = {
    "embedding_size": 8, "stem_channels": [3, 8, 8], "hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1],
    "stage_in_channels": [8, 16, 24, 32], "stage_mid_channels": [8, 8, 8, 8], "stage_out_channels": [16, 24, 32, 48],
    "stage_num_blocks": [1, 1, 1, 1], "stage_numb_of_layers": [1, 1, 1, 1],
    "out_features": ["stage2", "stage3", "stage4"],
}  # fmt: skip
# name → (configuration class, that of its convolutions, their arguments, its own beside those of all)
_DETECTORS: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "rt_detr": ("RTDetrConfig", "RTDetrResNetConfig", _RESNET, {"encoder_in_channels": [16, 24, 32]}),
    "d_fine": ("DFineConfig", "HGNetV2Config", _HGNET,
               {"encoder_in_channels": [24, 32, 48], "decoder_n_points": [2, 2, 2]}),
}  # fmt: skip
NAMES = tuple(_DETECTORS)


def write(folder: Path, name: str, **settings: Any) -> BackboneEntry:
    """Make the checkpoint called `name` in `folder`, with further settings of its configuration, and describe it."""
    torch.manual_seed(0)
    kind, below, convolutions, options = _DETECTORS[name]
    backbone = getattr(transformers, below)(**convolutions)
    config = getattr(transformers, kind)(backbone_config=backbone, **_QUERIES, **options, **settings)
    model = AutoModelForObjectDetection.from_config(config)
    for module in model.modules():  # drawn near zero by the library: nothing would come through
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(_PICTURES))
    return BackboneEntry(name, "image", FolderSource(folder), "none", 32, 2, 0, 0, kind="detector")
