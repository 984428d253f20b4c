"""Tiny picture and sound checkpoints with random weights, written to a folder as the hub would have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModel

from models.backbones.registry import BackboneEntry, FolderSource, Modality

_SIZE = {"height": 32, "width": 32}
_PICTURES = {
    "do_resize": True, "size": _SIZE, "resample": 2, "do_rescale": True,
    "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
}  # fmt: skip
_PROCESSORS = {"dinov3": "DINOv3ViTImageProcessorFast"}  # where it is not that of ViT
_TRANSFORMER = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
_WAVES = {
    **_TRANSFORMER, "conv_dim": [16, 16], "conv_stride": [5, 4], "conv_kernel": [10, 8], "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "feat_extract_norm": "group",
}  # fmt: skip
_WAVE_EXTRACTOR = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 16000, "feature_size": 1}
_SPECTROGRAMS = {
    "feature_extractor_type": "ASTFeatureExtractor", "sampling_rate": 16000, "num_mel_bins": 32, "max_length": 128,
    "do_normalize": True, "mean": -4.27, "std": 4.57,
}  # fmt: skip
_WHISPER = {
    "d_model": 32, "encoder_layers": 3, "encoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_layers": 1,
    "decoder_attention_heads": 2, "decoder_ffn_dim": 64, "vocab_size": 64, "num_mel_bins": 16,
    "max_source_positions": 50, "max_target_positions": 8, "pad_token_id": 1, "bos_token_id": 1, "eos_token_id": 1,
    "decoder_start_token_id": 2,
}  # fmt: skip
_WINDOWS = {  # of one second
    "feature_extractor_type": "WhisperFeatureExtractor", "sampling_rate": 16000, "feature_size": 16, "chunk_length": 1,
    "hop_length": 160, "n_fft": 400,
}  # fmt: skip
FRONTEND = {
    "sample_rate": 16000, "frame_length": 400, "frame_step": 160, "fft_length": 512, "window": "hann_periodic",
    "magnitude_power": 1, "mel_bands": 64, "mel_min_hz": 125.0, "mel_max_hz": 7500.0, "mel_scale": "htk",
    "mel_norm": None, "log": "natural", "log_offset": 0.001, "patch_frames": 96, "patch_hop_frames": 48,
    "patch_samples": 15600, "center": False,
}  # fmt: skip

# name → (configuration class, its arguments, the file beside it)
PICTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "mobilenet_v1": ("MobileNetV1Config", {"depth_multiplier": 0.25}),
    "mobilenet_v2": ("MobileNetV2Config", {"depth_multiplier": 0.35}),
    "resnet": ("ResNetConfig", {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}),
    "regnet": ("RegNetConfig", {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1],
                                "groups_width": 8}),
    "convnext": ("ConvNextConfig", {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}),
    "vit": ("ViTConfig", {**_TRANSFORMER, "image_size": 32, "patch_size": 8}),
    "deit": ("DeiTConfig", {**_TRANSFORMER, "image_size": 32, "patch_size": 8}),
    "dinov2": ("Dinov2Config", {**_TRANSFORMER, "image_size": 32, "patch_size": 8, "mlp_ratio": 2}),
    "dinov3": ("DINOv3ViTConfig", {**_TRANSFORMER, "image_size": 32, "patch_size": 8, "num_register_tokens": 4}),
    "siglip": ("SiglipConfig", {"vision_config": {**_TRANSFORMER, "image_size": 32, "patch_size": 8},
                                "text_config": {**_TRANSFORMER, "vocab_size": 64}}),
}  # fmt: skip
SOUNDS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "yamnet": ("MobileNetV1Config", {"depth_multiplier": 0.25, "num_channels": 1}, "frontend.json", FRONTEND),
    "ast": ("ASTConfig", {**_TRANSFORMER, "max_length": 128, "num_mel_bins": 32}, "preprocessor_config.json",
            _SPECTROGRAMS),
    "wav2vec2": ("Wav2Vec2Config", _WAVES, "preprocessor_config.json", _WAVE_EXTRACTOR),
    "wav2vec2-stable": ("Wav2Vec2Config", {**_WAVES, "do_stable_layer_norm": True, "feat_extract_norm": "layer"},
                        "preprocessor_config.json", _WAVE_EXTRACTOR),
    "hubert": ("HubertConfig", _WAVES, "preprocessor_config.json", _WAVE_EXTRACTOR),
    "whisper": ("WhisperConfig", _WHISPER, "preprocessor_config.json", _WINDOWS),
}  # fmt: skip


def write(folder: Path, name: str) -> BackboneEntry:
    """Make the checkpoint called `name` in `folder` and describe it."""
    torch.manual_seed(0)
    modality: Modality = "image" if name in PICTURES else "audio"
    kind, options = (PICTURES.get(name) or SOUNDS[name])[:2]
    pictures = {**_PICTURES, "image_processor_type": _PROCESSORS.get(name, "ViTImageProcessor")}
    beside, content = ("preprocessor_config.json", pictures) if modality == "image" else SOUNDS[name][2:]
    model = AutoModel.from_config(getattr(transformers, kind)(**options))
    for module in model.modules():  # placeholders would hide a mistake about running statistics
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    model.save_pretrained(folder)
    (folder / beside).write_text(json.dumps(content))
    return BackboneEntry(name, modality, FolderSource(folder), "none", 32, 3, 0, 0)
