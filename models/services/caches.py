"""What this machine's caches hold of deleted files, versions and customers, and SQLite's log of them.

Whoever deletes announces it in the same transaction and empties the caches of its own data folder at once. Workers and
predictors on other machines read the announcement within seconds.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from sqlalchemy.orm import Session

from models.errors import Unavailable
from models.records import changes
from models.services.resources import Resources

# Changes after which nothing of a customer's may stay in a worker's caches.
EMPTYING = frozenset({"file_deleted", "version_deleted", "customer"})


def announce_file(session: Session, customer_id: str) -> None:
    """Write that a file is deleted in this transaction: workers may hold features of it."""
    changes.record(session, "file_deleted", customer_id)


def announce_version(session: Session, customer_id: str, manifest_sha256: str) -> None:
    """Write that a version is deleted in this transaction: predictors may hold its weights."""
    changes.record(session, "version_deleted", customer_id, manifest_sha256)


def features_folder(cache_dir: Path, customer_id: str) -> Path:
    """Return the folder of a customer's cached features."""
    return cache_dir / "features" / customer_id


def checkpoints_folder(cache_dir: Path, job_id: str) -> Path:
    """Return the folder of an unfinished job's last good state."""
    return cache_dir / "checkpoints" / job_id


def empty(resources: Resources, customer_id: str, job_ids: Iterable[str] = ()) -> bool:
    """Remove a customer's features, the checkpoints of jobs that are gone, and SQLite's log; call it after the commit.

    What still needs the features computes them again. False: a reader holds the log; try again.
    """
    cache_dir = resources.settings.cache_dir
    shutil.rmtree(features_folder(cache_dir, customer_id), ignore_errors=True)
    for job_id in job_ids:
        shutil.rmtree(checkpoints_folder(cache_dir, job_id), ignore_errors=True)
    try:
        return resources.database.empty_log()
    except Unavailable:  # what is deleted is deleted, and its caller goes on
        return False
