"""Versions on their way out: as files that other programs load."""

from __future__ import annotations

import hashlib
import io
import zipfile

from models.artifacts import peft_adapter
from models.artifacts.errors import CorruptArtifact
from models.artifacts.manifest import MANIFEST, WEIGHTS, Manifest
from models.backbones import registry
from models.backbones.registry import HubSource
from models.services import catalog
from models.services.errors import NotExportable, NotWriting
from models.services.resources import Resources

# The weights that the built-in base was quantised from.
_HUB_NAMES = {"smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct"}


def as_peft(resources: Resources, customer_id: str, model_ref: str) -> tuple[str, bytes]:
    """Return the name and the content of a zip with a version as a PEFT adapter folder.

    Raises NotFound, NotWriting for a model of another task, NotExportable for a version without low-rank matrices,
    CorruptArtifact.
    """
    version = catalog.resolve(resources, customer_id, model_ref)
    name = f"{version.name}-{version.number}"
    content = resources.store.get_bytes(version.artifact_prefix + MANIFEST)
    if hashlib.sha256(content).hexdigest() != version.manifest_sha256:
        raise CorruptArtifact(reason="its manifest is not the one that was published")
    manifest = Manifest.decode(content)
    entry = registry.find(resources.settings, version.base_model)
    if entry.kind != "decoder":
        raise NotWriting(model=version.name, version=version.number, task=version.task)
    weights = resources.store.get_bytes(version.artifact_prefix + WEIGHTS)
    if hashlib.sha256(weights).hexdigest() != manifest.files[WEIGHTS].sha256:
        raise CorruptArtifact(reason="its weights do not match the manifest")
    base = entry.source.id if isinstance(entry.source, HubSource) else _HUB_NAMES.get(entry.name, entry.name)
    adapter = peft_adapter.convert(manifest, weights, base=base)
    if adapter is None:
        raise NotExportable(model=version.name, version=version.number, strategy=manifest.strategy)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for file, data in adapter.files.items():
            archive.writestr(zipfile.ZipInfo(f"{name}/{file}"), data)
    return name, packed.getvalue()
