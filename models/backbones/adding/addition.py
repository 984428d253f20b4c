"""Adding a base model, step by step: find, look into, try, enter. And taking one out of use, and back into it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from models.backbones import base_models_file, registry
from models.backbones.adding import catalogue, inspection, origins
from models.backbones.adding.errors import BaseNameTaken, InvalidBaseName, NotInFile, UnknownLicence
from models.backbones.adding.inspection import Facts
from models.backbones.adding.origins import Origin
from models.backbones.registry import AUTO, BackboneEntry, HubSource, Source, WheelSource
from models.identifiers import is_name
from models.settings import Settings

if TYPE_CHECKING:  # torch comes with it, and retiring a base needs none
    from models.backbones.adding.trial import Trial

_TASKS = {
    ("text", "encoder"): "classification of texts and pairs of texts, multi-label, regression, spans; embeddings",
    ("text", "decoder"): "text-generation: chat, tools, answers in a form",
    ("image", "encoder"): "image-classification",
    ("image", "detector"): "object-detection",
    ("audio", "encoder"): "audio-classification",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the operator wants added; None: as the model itself says, or as it is now."""

    model: str  # a name of the catalogue, an id of the hub, a folder, a wheel, a package
    name: str | None = None
    revision: str | None = None
    licence: str | None = None


@dataclass(frozen=True, slots=True)
class Added:
    """A base that is in the file now."""

    entry: BackboneEntry
    facts: Facts
    trial: Trial
    note: str
    is_new: bool  # False: the same was there already

    @property
    def good_for(self) -> str:
        """The tasks that it can be the base of."""
        return _TASKS[self.entry.modality, self.entry.kind]


def add(
    settings: Settings,
    asked: Asked,
    try_base: Callable[[Settings, BackboneEntry], Trial],
    *,
    report: Callable[[str], None] = lambda _: None,
) -> Added:
    """Add a base to the operator's file, once it was tried; nothing is written before.

    Raises UnknownModelReference and the other errors of `adding.errors`, those of loading, InvalidBaseModelsFile,
    UnwritableBaseModelsFile.
    """
    listed = catalogue.find(asked.model)
    given = listed.id if listed else asked.model
    report(f"Fetching {given}")
    origin = origins.find(settings, given, revision=asked.revision, hint=catalogue.suggestion(asked.model))
    facts = inspection.inspect(origin.folder, asked.model)
    name = asked.name or (listed.name if listed else _as_name(origin.suggested_name))
    present = _check_name(settings, name, origin.source)
    entry = _describe(name, origin, facts, asked)
    report(f"Trying it: {facts.architecture}, {entry.parameters / 1e6:,.1f} million parameters")
    trial = try_base(settings, entry)
    entry = replace(entry, width=trial.width, blocks=trial.blocks, max_tokens=trial.max_tokens)
    with base_models_file.changing(settings) as entries:
        if present is None and name not in entries:
            entries[name] = _fields(entry)
    return Added(entry, facts, trial, origin.note, is_new=present is None)


def set_retired(settings: Settings, name: str, retired: bool) -> BackboneEntry:
    """Take a base out of use for new jobs, or back into it; twice is as good as once. Raises NotInFile."""
    known = registry.entries(settings)
    if name not in known:
        raise NotInFile(name=name, known=", ".join(known))
    with base_models_file.changing(settings) as entries:
        fields = entries.setdefault(name, {})
        fields.pop("retired", None)
        if retired:
            fields["retired"] = True
        elif not fields:  # all that was said of one that is built in
            del entries[name]
    return replace(known[name], retired=retired)


def _describe(name: str, origin: Origin, facts: Facts, asked: Asked) -> BackboneEntry:
    licence = asked.licence or facts.licence or origin.licence
    if not licence:
        raise UnknownLicence(given=asked.model)
    return BackboneEntry(
        name=name,
        modality=facts.modality,
        source=origin.source,
        licence=licence,
        width=facts.width,
        blocks=facts.blocks,
        parameters=facts.parameters,
        max_tokens=facts.max_tokens or (512 if facts.modality == "text" else 0),
        kind=facts.kind,
    )


def _check_name(settings: Settings, name: str, source: Source) -> BackboneEntry | None:
    """Return the base that has the name if it is this very one. Raises InvalidBaseName, BaseNameTaken."""
    if not is_name(name) or name == AUTO:
        raise InvalidBaseName(name=name[:80])
    present = registry.entries(settings).get(name)
    if present is not None and present.source != source:
        raise BaseNameTaken(name=name, source=present.source)
    return present


def _as_name(text: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:64]


def _fields(entry: BackboneEntry) -> dict[str, Any]:
    """Return the entry as the file has it; sizes too, for machines that do not have the weights yet."""
    fields: dict[str, Any] = {"modality": entry.modality}
    if entry.kind != "encoder":
        fields["kind"] = entry.kind
    sizes = {"width": entry.width, "blocks": entry.blocks, "parameters": entry.parameters}
    if entry.modality == "text":
        sizes["max_tokens"] = entry.max_tokens
    return {**fields, "source": _source_fields(entry.source), "licence": entry.licence, **sizes}


def _source_fields(source: Source) -> dict[str, str]:
    if isinstance(source, HubSource):
        return {"hub": source.id, "revision": source.revision}
    if isinstance(source, WheelSource):
        return {"wheel": source.module, "inside": source.inside}
    return {"folder": str(source.path)}  # type: ignore[union-attr]  # packed ones are built in
