"""A version as a PEFT adapter folder: other programs load it beside the same base. No torch: only names change.

The tensors' bytes stay as they are: a safetensors file is a header of names and places, then the numbers.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from models.artifacts.errors import CorruptArtifact
from models.artifacts.manifest import Manifest
from models.artifacts.prompt import Prompt

_PAIR = re.compile(r"lora\.(\d+)\.(.+)\.([AB])")
_LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True)
class PeftAdapter:
    """The files of the folder by name."""

    files: dict[str, bytes]


def convert(manifest: Manifest, weights: bytes, *, base: str) -> PeftAdapter | None:
    """Return the folder of a version on `base`, as others name it; None if its weights are not low-rank matrices.

    Raises CorruptArtifact.
    """
    header, numbers = _split(weights)
    tensors = {name: value for name, value in header.items() if name != "__metadata__"}
    named: dict[str, Any] = {}
    ranks, modules = set(), set()
    for name, value in tensors.items():
        found = _PAIR.fullmatch(name)
        if found is None:
            return None
        block, module, side = found.groups()
        named[f"base_model.model.model.layers.{block}.{module}.lora_{side}.weight"] = value
        modules.add(module.rpartition(".")[2])
        if side == "A":
            ranks.add(int(value["shape"][0]))
    if len(ranks) != 1:
        return None
    rank = ranks.pop()
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": rank,  # the scale is in the matrices
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "target_modules": sorted(modules),
    }
    files = {
        "adapter_config.json": json.dumps(config, indent=1, sort_keys=True).encode(),
        "adapter_model.safetensors": _join(named, numbers),
        "generation.json": json.dumps(Prompt.of(manifest).as_details(), indent=1, ensure_ascii=False).encode(),
    }
    return PeftAdapter(files)


def _split(weights: bytes) -> tuple[dict[str, Any], bytes]:
    try:
        length = int.from_bytes(weights[:_LENGTH_BYTES], "little")
        header: dict[str, Any] = json.loads(weights[_LENGTH_BYTES : _LENGTH_BYTES + length])
    except ValueError as error:
        raise CorruptArtifact(reason="its weights are not a safetensors file") from error
    return header, weights[_LENGTH_BYTES + length :]


def _join(header: dict[str, Any], numbers: bytes) -> bytes:
    encoded = json.dumps({"__metadata__": {"format": "pt"}, **header}, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % _LENGTH_BYTES)
    return len(encoded).to_bytes(_LENGTH_BYTES, "little") + encoded + numbers
