"""The local folders of an attempt, the request that its trainer gets, and what is kept between attempts.

All of it lies below the cache folder and can be rebuilt: `scratch/` lives as long as one attempt, `features/` holds
each customer's cached features, `checkpoints/` each unfinished job's last good state.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import structlog

from models.learning.contract.comparison import VERSION_FILES, LiveVersion
from models.learning.contract.request import DatasetSource, Hyperparameters, TrainRequest
from models.records.files import File
from models.records.versions import ModelVersion
from models.services import base_candidates, caches, orphans, priors
from models.services.claims import Claim
from models.services.resources import Resources
from models.storage.errors import ObjectCorrupt, ObjectMissing
from models.storage.store import ObjectStore
from worker.background_tasks import Retry
from worker.errors import DatasetCorrupt

log = structlog.get_logger(__name__)

_LOCK = ".owner"
_STALE_CHECKPOINT_S = 7 * 86_400.0
_ROOM_BYTES = 2**20


class Workspace:
    """One attempt's folders. The scratch folder is locked while its owner lives; an unlocked one is an orphan."""

    def __init__(self, cache_dir: Path, *, customer_id: str, job_id: str, attempt: int, worker: str) -> None:
        self.scratch = cache_dir / "scratch" / f"{job_id}-{attempt}-{worker.rpartition(':')[2]}"
        self.features = caches.features_folder(cache_dir, customer_id)
        self.checkpoints = caches.checkpoints_folder(cache_dir, job_id)
        self.output = self.scratch / "output"
        self._lock: int | None = None

    @classmethod
    def of(cls, claim: Claim, cache_dir: Path) -> Workspace:
        """Name the folders of a claimed attempt; `create` makes them."""
        job = claim.job
        return cls(cache_dir, customer_id=job.customer_id, job_id=job.id, attempt=claim.attempt, worker=claim.worker)

    def create(self) -> None:
        """Make the folders. Raises OSError when the disk is full."""
        for folder in (self.output, self.features, self.checkpoints):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Modification times are the order of use.
        os.utime(self.features)
        os.utime(self.checkpoints)
        self._lock = os.open(self.scratch / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def fetch(self, store: ObjectStore, file: File) -> Path:
        """Bring a data set here and check it against the hash of its upload. Raises DatasetCorrupt, OSError."""
        path = self.scratch / file.id
        store.get_file(file.object_key, path)
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        if digest != file.sha256:
            raise DatasetCorrupt(file=file.filename)
        return path

    def fetch_version(self, store: ObjectStore, version: ModelVersion) -> LiveVersion:
        """Bring a version's files here, as many as there are. What is missing or damaged is found when it is read."""
        folder = self.scratch / "live"
        folder.mkdir(exist_ok=True)
        for name in VERSION_FILES:
            with contextlib.suppress(ObjectMissing, ObjectCorrupt):
                store.get_file(version.artifact_prefix + name, folder / name)
        return LiveVersion(version.number, folder)

    def remove(self, *, job_ended: bool) -> None:
        """Remove the scratch folder, and the checkpoints when no further attempt can follow."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        if job_ended:
            shutil.rmtree(self.checkpoints, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def prepare(resources: Resources, claim: Claim, workspace: Workspace, retry: Retry) -> TrainRequest:
    """Make the folders, fetch the data sets, write the request: local paths and plain values, nothing of a database.

    Raises DatasetCorrupt, Unavailable, OSError.
    """
    workspace.create()

    def fetch(file: File) -> DatasetSource:
        path = retry.call(lambda: workspace.fetch(resources.store, file))
        return DatasetSource(path, file.profile["format"], file.profile["columns"], file.sha256)

    job, settings = claim.job, resources.settings
    known = {field.name for field in fields(Hyperparameters)}
    candidates = base_candidates.names_of_candidates(settings, job)
    return TrainRequest(
        training=fetch(claim.training_file),
        validation=fetch(claim.validation_file) if claim.validation_file is not None else None,
        unlabeled=fetch(claim.unlabeled_file) if claim.unlabeled_file is not None else None,
        task=job.task,
        output_dir=workspace.output,
        base_model=job.base_model,
        strategy=job.strategy,  # type: ignore[arg-type]  # checked when the job was submitted
        hyperparameters=Hyperparameters(
            **{name: job.hyperparameters[name] for name in known & set(job.hyperparameters)}
        ),
        seed=job.seed,
        device=settings.device,
        precision=settings.precision,
        threads=settings.threads,
        refine_budget_s=settings.refine_budget_s,
        feature_cache_dir=workspace.features,
        checkpoint_dir=workspace.checkpoints,
        priors=retry.call(lambda: priors.fetch(resources, job, candidates)),
        live=_fetch_live(resources, claim, workspace, retry),
        base_candidates=candidates,
        base_choice=None if candidates else job.base_choice,
    )


def _fetch_live(resources: Resources, claim: Claim, workspace: Workspace, retry: Retry) -> LiveVersion | None:
    live = claim.live
    if live is None:
        return None
    return retry.call(lambda: workspace.fetch_version(resources.store, live))


def remove_orphaned_scratch(cache_dir: Path) -> int:
    """Remove the scratch folders of workers that were killed; return how many there were."""
    removed = 0
    for scratch in _folders(cache_dir / "scratch"):
        lock = scratch / _LOCK
        try:
            descriptor = os.open(lock, os.O_RDWR)
        except FileNotFoundError:
            # Being made at this moment, unless it is old.
            if time.time() - scratch.stat().st_mtime < 60:
                continue
            descriptor = None
        except OSError:
            continue
        try:
            if descriptor is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(scratch, ignore_errors=True)
            removed += 1
        except BlockingIOError:
            continue  # its owner lives
        finally:
            if descriptor is not None:
                os.close(descriptor)
    return removed


def shrink_caches(cache_dir: Path, limit_bytes: int) -> int:
    """Remove cached features, least recently used first, until they fit; returns the bytes removed.

    Checkpoints that were not touched for a week go as well. Safe beside running attempts: features that
    vanish are computed again.
    """
    for checkpoint in _folders(cache_dir / "checkpoints"):
        if time.time() - checkpoint.stat().st_mtime > _STALE_CHECKPOINT_S:
            shutil.rmtree(checkpoint, ignore_errors=True)
    files: list[tuple[float, int, Path]] = []
    for path in (cache_dir / "features").rglob("*"):
        try:
            status = path.stat()
        except OSError:
            continue
        if path.is_file():
            files.append((max(status.st_mtime, status.st_atime), status.st_size, path))
    total = sum(size for _, size, _ in files)
    removed = 0
    for _, size, path in sorted(files):
        if total - removed <= limit_bytes:
            break
        path.unlink(missing_ok=True)
        removed += size
    return removed


def await_room(cache_dir: Path, pause: Callable[[float], bool], *, longest_s: float) -> None:
    """Remove every cached feature, then wait until the disk has more room than before, `longest_s` at most.

    `pause` waits for some seconds; it returns False when nobody waits for the result any more.
    """
    before = shutil.disk_usage(cache_dir).free
    shrink_caches(cache_dir, 0)
    deadline = time.monotonic() + longest_s
    # First wait, then look: what was freed just now is others' as well.
    while pause(1.0) and shutil.disk_usage(cache_dir).free < before + _ROOM_BYTES and time.monotonic() < deadline:
        pass


def remove_orphaned_caches(resources: Resources) -> int:
    """Remove the features of customers and the checkpoints of jobs that were deleted; return how many."""
    removed = 0
    for kind, find_unknown in (("features", orphans.unknown_customers), ("checkpoints", orphans.unknown_jobs)):
        # Listed before the query: a folder is made after its row.
        folders = {folder.name: folder for folder in _folders(resources.settings.cache_dir / kind)}
        for name in find_unknown(resources, list(folders)):
            shutil.rmtree(folders[name], ignore_errors=True)
            removed += 1
    return removed


def _folders(parent: Path) -> Iterator[Path]:
    try:
        children = list(parent.iterdir())
    except FileNotFoundError:
        return
    for child in children:
        try:
            if child.is_dir():
                yield child
        except OSError:
            continue
