"""Bases that come quantised in a GGUF file: dequantised once into a folder in Hugging Face layout."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from models.backbones import unpacking
from models.backbones.checkpoint import one_reader
from models.backbones.registry import BackboneEntry
from models.backbones.sources import PackedSource


def unpack(entry: BackboneEntry, source: PackedSource) -> Path:
    """Return the folder of the dequantised weights, made now if it is not there yet. Raises BaseModelUnreachable."""
    return unpacking.unpack(entry, source, partial(_dequantise, entry))


def _dequantise(entry: BackboneEntry, quantised: Path, folder: Path) -> None:
    import torch  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    try:
        options: dict[str, Any] = {"gguf_file": quantised.name, "local_files_only": True}
        with one_reader():
            tokenizer: Any = AutoTokenizer.from_pretrained(quantised.parent, **options)
            model = AutoModelForCausalLM.from_pretrained(quantised.parent, dtype=torch.float32, **options)
    except (ValueError, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise unpacking.unreachable(entry, reason, "Install what it names, then try again.") from error
    tensors = dict(model.state_dict())
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    config = {key: value for key, value in model.config.to_dict().items() if key != "quantization_config"}
    config["architectures"] = [type(model).__name__]
    (folder / "config.json").write_text(json.dumps(config, indent=1, default=str), "utf-8")
    tokenizer.save_pretrained(folder)
