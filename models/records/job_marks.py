"""What changes of a job while it is followed, in one row each: cheap to read for many jobs at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models.records.job_events import JobEvent
from models.records.jobs import Job

# Some databases take no more parameters in one statement than thousands.
_AT_ONCE = 500


def fetch(session: Session, job_ids: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Return the marks of jobs that exist, of any customer: if two differ, the job or its events have changed."""
    newest = select(func.max(JobEvent.seq)).where(JobEvent.job_id == Job.id).scalar_subquery()
    columns = (
        Job.id,
        Job.status,
        Job.step,
        Job.percent,
        Job.seconds_remaining,
        Job.attempt,
        Job.started_at,
        Job.finished_at,
        Job.fine_tuned_model,
        newest,
    )
    found: dict[str, tuple[Any, ...]] = {}
    for start in range(0, len(job_ids), _AT_ONCE):
        statement = select(*columns).where(Job.id.in_(job_ids[start : start + _AT_ONCE]))
        found.update({row[0]: tuple(row[1:]) for row in session.execute(statement)})
    return found


def newest_event(mark: tuple[Any, ...]) -> int:
    """Return the number of a job's last event when its mark was read; 0 if it had none."""
    return int(mark[-1] or 0) if mark else 0
