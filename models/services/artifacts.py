"""Artifacts on their way into the object store: the manifest last, so that what is incomplete does not count."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass

from models.artifacts.manifest import MANIFEST
from models.errors import GraftError
from models.identifiers import is_name, new_id
from models.learning.contract.events import VersionReady
from models.records.versions import Model, ModelVersion
from models.services.errors import ArtifactIncomplete
from models.storage.errors import ObjectCorrupt, ObjectMissing, StorageUnavailable
from models.storage.keys import artifact_prefix, manifest_key
from models.storage.store import ObjectStore


@dataclass(frozen=True, slots=True)
class StoredArtifact:
    """A candidate's files in the store, complete, not yet a version."""

    version_id: str
    prefix: str
    manifest_sha256: str
    bytes: int


def upload(store: ObjectStore, model: Model, job_id: str, attempt: int, candidate: VersionReady) -> StoredArtifact:
    """Store a candidate's folder below a prefix of this attempt alone.

    Every object is checked as it arrives; the manifest is read back. Raises ArtifactIncomplete, StorageUnavailable.
    """
    if not is_name(candidate.name):
        raise ArtifactIncomplete(candidate=candidate.name, reason="its name cannot be part of a key")
    root = candidate.artifact_dir
    manifest = root / MANIFEST
    if not manifest.is_file():
        raise ArtifactIncomplete(candidate=candidate.name, reason="it has no manifest")
    prefix = artifact_prefix(model.customer_id, model.id, job_id, attempt, candidate.name)
    total = manifest.stat().st_size
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            raise ArtifactIncomplete(candidate=candidate.name, reason=f"{path.name} is a link")
        if path.is_file() and path != manifest:
            store.put_file(prefix + path.relative_to(root).as_posix(), path)
            total += path.stat().st_size
    content = manifest.read_bytes()
    store.put_bytes(manifest_key(prefix), content)
    if store.get_bytes(manifest_key(prefix)) != content:
        raise ObjectCorrupt(key=manifest_key(prefix), reason="the manifest is not what was stored")
    return StoredArtifact(new_id("ftckpt-"), prefix, hashlib.sha256(content).hexdigest(), total)


def is_complete(store: ObjectStore, version: ModelVersion) -> bool:
    """Return whether a version's manifest is in the store and is the one that was published."""
    try:
        content = store.get_bytes(manifest_key(version.artifact_prefix))
    except (ObjectMissing, ObjectCorrupt):
        return False
    return hashlib.sha256(content).hexdigest() == version.manifest_sha256


def remove(store: ObjectStore, artifact: StoredArtifact) -> None:
    """Remove an upload that became no version; what cannot be removed now is an orphan for the sweeper."""
    with contextlib.suppress(GraftError, StorageUnavailable):
        store.delete_prefix(artifact.prefix)
