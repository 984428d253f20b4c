"""Facts of a model, from its files alone: what it reads, how large it is, its licence and languages. No torch."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.backbones import sizes
from models.backbones.adding.errors import UnreadableModel
from models.backbones.registry import Kind, Modality

# What a network reads, where its name says so; else the files beside it do.
_READS: dict[str, Modality] = {
    **dict.fromkeys(
        ("mobilenet_v1", "mobilenet_v2", "resnet", "regnet", "convnext", "convnextv2", "vit", "deit", "dinov2",
         "dinov2_with_registers", "dinov3_vit", "siglip", "siglip_vision_model", "rt_detr", "d_fine"),
        "image",
    ),
    **dict.fromkeys(("audio-spectrogram-transformer", "wav2vec2", "hubert", "whisper"), "audio"),
}  # fmt: skip
_WRITES = ("ForCausalLM", "LMHeadModel")
_FINDS_BOXES = "ForObjectDetection"
_STATED_LIMITS = (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length"))
_ENDLESS = 10**6  # tokenizers that know no limit state 10**30


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts of a model; 0, () and "" where its files do not say."""

    modality: Modality
    kind: Kind
    architecture: str
    width: int
    blocks: int
    parameters: int
    max_tokens: int  # of text
    licence: str
    languages: tuple[str, ...]


def inspect(folder: Path, given: str) -> Facts:
    """Return the facts of the model in `folder`; raises UnreadableModel if they do not say what it reads."""
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
        found = sizes.read(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"its config.json cannot be read ({type(error).__name__}: {error})"
        raise UnreadableModel(given=given, reason=reason) from error
    architecture = str(config.get("model_type", ""))
    modality = _modality(folder, architecture, given)
    classes = [str(name) for name in config.get("architectures") or ()]
    card = _card(folder)
    return Facts(
        modality=modality,
        kind=_kind(classes, modality),
        architecture=architecture or "unknown",
        width=found.get("width", 0),
        blocks=found.get("blocks", 0),
        parameters=found.get("parameters", 0),
        max_tokens=_longest(folder, found.get("max_tokens", 0)) if modality == "text" else 0,
        licence=_licence(card) or _licence_of_file(folder),
        languages=_listed(card.get("language")),
    )


def _kind(classes: Sequence[str], modality: Modality) -> Kind:
    if modality == "text" and any(name.endswith(_WRITES) for name in classes):
        return "decoder"
    return "detector" if any(name.endswith(_FINDS_BOXES) for name in classes) else "encoder"


def _modality(folder: Path, architecture: str, given: str) -> Modality:
    def has(*names: str) -> bool:
        return any((folder / name).is_file() for name in names)

    if has("frontend.json"):
        return "audio"
    if architecture in _READS:
        return _READS[architecture]
    if has("preprocessor_config.json", "processor_config.json"):
        raise UnreadableModel(given=given, reason=f"nothing here reads what '{architecture}' reads")
    if has("tokenizer.json", "vocab.txt", "tokenizer_config.json"):
        return "text"
    raise UnreadableModel(
        given=given, reason="beside its weights there is no tokenizer.json, preprocessor_config.json or frontend.json"
    )


def _longest(folder: Path, by_positions: int) -> int:
    """Return the longest text in tokens: what its positions allow, and no more than its makers state."""
    limits = [by_positions]
    for file, key in _STATED_LIMITS:
        if (path := folder / file).is_file():
            stated = json.loads(path.read_text("utf-8")).get(key)
            limits.append(int(stated) if isinstance(stated, int | float) and stated < _ENDLESS else 0)
    return min((limit for limit in limits if limit > 0), default=0)


def _card(folder: Path) -> dict[str, Any]:
    """Return the front matter of the model's README; {} if there is none."""
    path = folder / "README.md"
    if not path.is_file():
        return {}
    reader: Any = importlib.import_module("huggingface_hub.repocard")
    try:
        found = reader.metadata_load(path)
    except (ValueError, OSError, importlib.import_module("yaml").YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _licence(card: dict[str, Any]) -> str:
    stated = _listed(card.get("license"))
    if stated in (("other",), ("unknown",)):  # then its name comes beside it
        return str(card.get("license_name") or "")
    return ", ".join(_SPELLED.get(each.lower(), each) for each in stated)


def _licence_of_file(folder: Path) -> str:
    """Return the licence whose text lies beside the weights, "" for none or one that is not known here."""
    for path in sorted(folder.glob("LICEN[CS]E*")):
        beginning = " ".join(path.read_text("utf-8", "replace")[:_HEADING].split())
        for words, name in _TEXTS.items():
            if words in beginning:
                return name
    return ""


def _listed(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(str(each) for each in value) if isinstance(value, list) else (str(value),)


_HEADING = 400  # characters of a licence in which its name is
_TEXTS = {"Apache License Version 2.0": "Apache-2.0", "MIT License": "MIT"}
# As SPDX spells the hub's names.
_SPELLED = {"apache-2.0": "Apache-2.0", "mit": "MIT", "bsd-3-clause": "BSD-3-Clause", "cc-by-4.0": "CC-BY-4.0",
            "cc-by-nc-4.0": "CC-BY-NC-4.0", "cc-by-sa-4.0": "CC-BY-SA-4.0"}  # fmt: skip
