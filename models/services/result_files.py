"""Files that jobs leave: the loss curve, as the table that OpenAI's fine-tuning leaves. They are the customer's.

Its bytes count among the stored ones; it is never refused for a quota, because a model was trained for it. It goes when
the customer deletes it, or is deleted.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from models.identifiers import new_id
from models.learning.contract.events import CurvePoint
from models.records import audit
from models.records.audit import SYSTEM
from models.records.files import RESULTS, File
from models.records.jobs import Job
from models.services.resources import Resources
from models.storage.errors import StorageUnavailable
from models.storage.keys import file_key

_NAME = "step_metrics.csv"
_COLUMNS = ("step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy")


@dataclass(frozen=True, slots=True)
class StoredResults:
    """A loss curve in the store, not yet a file of its customer."""

    file_id: str
    key: str
    bytes: int
    sha256: str


def store(resources: Resources, customer_id: str, curve: Sequence[CurvePoint]) -> StoredResults | None:
    """Store a loss curve; None if there is none. Raises StorageUnavailable."""
    if not curve:
        return None
    content, file_id = render(curve), new_id("file-")
    key = file_key(customer_id, file_id)
    resources.store.put_bytes(key, content)
    return StoredResults(file_id, key, len(content), hashlib.sha256(content).hexdigest())


def add(session: Session, job: Job, stored: StoredResults, *, now: float) -> None:
    """Make what is stored the job's file, in the transaction that ends the job."""
    session.add(
        File(
            id=stored.file_id,
            customer_id=job.customer_id,
            filename=_NAME,
            purpose=RESULTS,
            bytes=stored.bytes,
            sha256=stored.sha256,
            object_key=stored.key,
            profile={},
            created_at=now,
        )
    )
    job.result_file_id = stored.file_id
    after = {"bytes": stored.bytes, "sha256": stored.sha256, "job": job.id}
    audit.record(session, SYSTEM, "file.created", job.customer_id, stored.file_id, after=after)


def discard(resources: Resources, stored: StoredResults | None) -> None:
    """Remove what became nobody's file; the sweeper does if this cannot."""
    if stored is not None:
        with contextlib.suppress(StorageUnavailable):
            resources.store.delete(stored.key)


def render(curve: Sequence[CurvePoint]) -> bytes:
    """Return a curve as CSV; what was not measured at a step is empty."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for point in curve:
        figures = (point.train_loss, point.train_accuracy, point.valid_loss, point.valid_accuracy)
        writer.writerow([point.step, *("" if value is None else f"{value:.6g}" for value in figures)])
    return table.getvalue().encode()
