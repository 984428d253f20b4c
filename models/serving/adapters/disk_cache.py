"""The local disk between object store and memory: artifacts are fetched, checked and read.

What lies on disk is a cache: bounded, the least recently used goes first, anything in it may vanish. Every load checks
the manifest against the version's hash and the files against the manifest, so a damaged copy is fetched again and a
damaged original fails its owner's requests alone.

Several predictors may share a data folder, and none may remove what another is reading or fetching: each has a numbered
folder of its own in it, locked for as long as it lives.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog

from models import disk
from models.artifacts.errors import CorruptArtifact
from models.artifacts.folder import Artifact, read_artifact
from models.artifacts.manifest import MANIFEST, WEIGHTS
from models.identifiers import new_id
from models.services.catalog import ResolvedVersion
from models.serving.errors import ArtifactBroken
from models.storage.errors import ObjectCorrupt, ObjectMissing, StorageUnavailable
from models.storage.keys import manifest_key
from models.storage.store import ObjectStore

log = structlog.get_logger(__name__)

# Smaller files are read whole: a map of its own per head would run into the kernel's limit of maps per process.
MAP_BYTES = 4 * 2**20
_LOCK = ".owner"
_MEMORY = "/dev/shm"  # noqa: S108 - Linux' own folder in memory


class ArtifactDiskCache:
    """The local disk before the object store. Thread-safe; all methods block."""

    def __init__(self, store: ObjectStore, parent: Path, *, limit_bytes: int) -> None:
        """Keep copies below `parent`, which several processes may share, each with at most `limit_bytes`."""
        self._store = store
        self._parent = parent
        self._owned: int | None
        self.folder, self._owned = take_folder(parent)
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._held: OrderedDict[str, int] = OrderedDict()  # relative folder → bytes, least recently used first
        self._total = 0
        self._fetchers = ThreadPoolExecutor(8, "fetch")
        for old in sorted(self.folder.glob("*/*/"), key=lambda path: path.stat().st_mtime):
            if (old / MANIFEST).is_file():
                self._note(str(old.relative_to(self.folder)), _size(old))
            else:  # a fetch that was cut off
                shutil.rmtree(old, ignore_errors=True)

    @property
    def disk_bytes(self) -> int:
        """Bytes on disk."""
        return self._total

    def read(self, version: ResolvedVersion) -> Artifact:
        """Return a version's artifact. Raises ArtifactBroken, StorageUnavailable."""
        name = f"{version.customer_id}/{version.manifest_sha256}"
        path = self.folder / name
        if (path / MANIFEST).is_file():
            try:
                artifact = _read(path, version)
            except ArtifactBroken as error:
                log.warning("artifact_cache.damaged_copy", path=name, error=str(error))
                self._remove(name)
            else:
                self._note(name, None)
                return artifact
        try:
            self._fetch(version, path)
        except (OSError, StorageUnavailable) as error:
            if not disk.is_full(error):
                raise
            return self._read_past_disk(version)
        try:
            artifact = _read(path, version)
        except ArtifactBroken:
            self._remove(name)
            raise
        self._note(name, _size(path))
        return artifact

    def _read_past_disk(self, version: ResolvedVersion) -> Artifact:
        """Return an artifact that there is no room to keep: by way of a folder in memory, where there is one."""
        log.warning("artifact_cache.disk_full", model=version.full_name)
        memory = _MEMORY if os.access(_MEMORY, os.W_OK) else None
        with tempfile.TemporaryDirectory(prefix="graft-", dir=memory) as folder:
            self._fetch(version, Path(folder) / "version")
            return _read(Path(folder) / "version", version)  # what is mapped stays valid when its file is removed

    def remove_customer(self, customer_id: str) -> None:
        """Remove everything of one customer."""
        with self._lock:
            theirs = [name for name in self._held if name.startswith(f"{customer_id}/")]
        for name in theirs:
            self._remove(name)
        # Also what predictors left that do not run any more. One that runs follows the changes by itself.
        for folder in self._parent.glob(f"*/{customer_id}"):
            shutil.rmtree(folder, ignore_errors=True)

    def remove_version(self, customer_id: str, manifest_sha256: str) -> None:
        """Remove one version."""
        name = f"{customer_id}/{manifest_sha256}"
        self._remove(name)
        for copy in self._parent.glob(f"*/{name}"):  # as in `remove_customer`
            shutil.rmtree(copy, ignore_errors=True)

    def close(self) -> None:
        """Stop fetching, and leave the folder to the next process."""
        self._fetchers.shutdown(wait=False, cancel_futures=True)
        if self._owned is not None:
            os.close(self._owned)
            self._owned = None

    def _fetch(self, version: ResolvedVersion, path: Path) -> None:
        """Fetch the files; the folder appears complete or not at all."""
        temporary = path.parent / new_id("fetch_")
        temporary.mkdir(parents=True)
        try:
            # Both at once: a first request waits for one round trip, not for two.
            weights = self._fetchers.submit(
                self._store.get_file, f"{version.artifact_prefix}{WEIGHTS}", temporary / WEIGHTS
            )
            manifest = self._store.get_bytes(manifest_key(version.artifact_prefix))
            weights.result()
            (temporary / MANIFEST).write_bytes(manifest)
            shutil.rmtree(path, ignore_errors=True)
            temporary.rename(path)
        except (ObjectMissing, ObjectCorrupt) as error:
            raise ArtifactBroken(
                model=version.full_name, version=version.number, reason="a file is missing from the object store"
            ) from error
        except OSError:
            if not (path / MANIFEST).is_file():  # else: another fetch was quicker
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _note(self, name: str, size: int | None) -> None:
        """Mark as used; with a size: as held."""
        with self._lock:
            before = self._held.pop(name, 0)
            size = before if size is None else size
            self._held[name] = size
            self._total += size - before
            surplus = []
            while self._total > self._limit and len(self._held) > 1:
                victim, freed = self._held.popitem(last=False)
                self._total -= freed
                surplus.append(victim)
        for victim in surplus:  # memory that is mapped from a removed file stays valid
            shutil.rmtree(self.folder / victim, ignore_errors=True)

    def _remove(self, name: str) -> None:
        with self._lock:
            self._total -= self._held.pop(name, 0)
        shutil.rmtree(self.folder / name, ignore_errors=True)


def take_folder(parent: Path) -> tuple[Path, int]:
    """Return the first numbered folder that no running process has locked, and the descriptor that locks it.

    The kernel drops a lock with its process, however that ends: what it fetched serves the next one.
    """
    number = 0
    while True:
        folder = parent / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            number += 1
        except OSError:  # a file system without locks
            os.close(descriptor)
            raise
        else:
            return folder, descriptor


def _read(path: Path, version: ResolvedVersion) -> Artifact:
    try:
        return read_artifact(path, manifest_sha256=version.manifest_sha256, map_bytes=MAP_BYTES)
    except CorruptArtifact as error:
        raise ArtifactBroken(model=version.full_name, version=version.number, reason=error.reason) from error


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir())
