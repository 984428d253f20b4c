"""Seconds for a thousand inputs of every model of the catalogue, on one core.

`python -m tests.benchmarks.catalogue_costs [NAME …]`. The weights are random and the shapes the models' own, as their
configurations state them: the cost is the same. Processor time, so that others on the machine do not count.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from models.backbones import loading, registry
from models.backbones.adding import catalogue, trial
from models.backbones.backbone import Backbone
from models.backbones.registry import BackboneEntry, FolderSource

_ROUNDS = 3
_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
_SMALL = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 1536}
_RESNET = {"embedding_size": 64}
# name → configuration class and what differs from its defaults. Vocabularies are the English base's: a longer table of
# words costs nothing.
_SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "multilingual-minilm": ("BertConfig", _SMALL),
    "multilingual-e5-small": ("BertConfig", _SMALL),
    "multilingual-e5-base": ("XLMRobertaConfig", {**_BASE, "vocab_size": 30_522, "max_position_embeddings": 514}),
    "bge-small": ("BertConfig", _SMALL),
    "bge-base": ("BertConfig", _BASE),
    "modernbert-base": ("ModernBertConfig", {}),
    "resnet-18": ("ResNetConfig", {**_RESNET, "hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2],
                                   "layer_type": "basic"}),
    "resnet-50": ("ResNetConfig", {**_RESNET, "hidden_sizes": [256, 512, 1024, 2048], "depths": [3, 4, 6, 3]}),
    "dinov2-small": ("Dinov2Config", {**_SMALL, "num_attention_heads": 6, "patch_size": 14, "image_size": 518}),
    "dinov2-base": ("Dinov2Config", {**_BASE, "patch_size": 14, "image_size": 518}),
    "siglip-base": ("SiglipVisionConfig", {**_BASE, "patch_size": 16, "image_size": 224}),
    "vit-base": ("ViTConfig", _BASE),
    "dinov3-small": ("DINOv3ViTConfig", {"num_register_tokens": 4}),
    "ast": ("ASTConfig", {}),
    "wav2vec2-base": ("Wav2Vec2Config", {}),
    "hubert-base": ("HubertConfig", {}),
    "whisper-tiny": ("WhisperConfig", {"d_model": 384, "encoder_layers": 4, "encoder_attention_heads": 6,
                                       "encoder_ffn_dim": 1_536, "decoder_layers": 1, "decoder_ffn_dim": 64}),
}  # fmt: skip
_PICTURES = {
    "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": 224, "width": 224},
    "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
}  # fmt: skip
_SOUNDS = {
    "ASTConfig": {"feature_extractor_type": "ASTFeatureExtractor", "sampling_rate": 16_000, "num_mel_bins": 128,
                  "max_length": 1_024},
    "Wav2Vec2Config": {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 16_000},
    "HubertConfig": {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 16_000},
    "WhisperConfig": {"feature_extractor_type": "WhisperFeatureExtractor", "sampling_rate": 16_000},
}  # fmt: skip


def _write(folder: Path, entry: catalogue.CatalogueEntry) -> BackboneEntry:
    kind, options = _SHAPES[entry.name]
    config = getattr(transformers, kind)(**options)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    if entry.modality == "text":
        minilm = registry.folder_of(registry.MINILM)
        assert minilm is not None
        for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
            if (minilm / name).is_file():
                shutil.copy(minilm / name, folder)
    else:
        beside = _PICTURES if entry.modality == "image" else _SOUNDS[kind]
        (folder / "preprocessor_config.json").write_text(json.dumps(beside))
    blocks = int(getattr(config, "num_hidden_layers", 1))
    return BackboneEntry(entry.name, entry.modality, FolderSource(folder), "none", 1, blocks, 0, 128)


def _ms_per_input(backbone: Backbone, inputs: Sequence[Any]) -> float:
    names = next(iter(backbone.feature_sets().values()))
    backbone.encode(inputs[:1], names)  # the first pass allocates
    found = []
    for _ in range(_ROUNDS):
        began = time.process_time()
        backbone.encode(inputs, names)
        found.append(1000 * (time.process_time() - began) / len(inputs))
    return min(found)


def main() -> None:
    """Print a line per model that can be added, or of those that are named."""
    for entry in catalogue.CATALOGUE:
        if entry.name not in _SHAPES or (sys.argv[1:] and entry.name not in sys.argv[1:]):
            continue
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as folder:
            backbone = loading.load(_write(Path(folder), entry), device="cpu", threads=1)
            seconds = _ms_per_input(backbone, trial.samples(entry.modality))
        print(f"{entry.name:24} {seconds:8.1f} s  {backbone.dtype}", flush=True)


if __name__ == "__main__":
    main()
