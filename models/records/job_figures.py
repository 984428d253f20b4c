"""Jobs of all customers in numbers, for the operator."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models.records.clock import read_clock
from models.records.jobs import Job


def count_queued(session: Session) -> int:
    """Count the jobs that wait for a worker, of all customers."""
    return session.scalar(select(func.count()).select_from(Job).where(Job.status == "queued")) or 0


def count_by_status(session: Session) -> dict[str, int]:
    """Count the jobs of all customers by state."""
    rows = session.execute(select(Job.status, func.count()).group_by(Job.status))
    return {row[0]: row[1] for row in rows}


def count_failed_by_blame(session: Session) -> dict[str, int]:
    """Return how many jobs failed through the user's and through the server's fault."""
    blame = Job.error["blame"].as_string()
    rows = session.execute(select(blame, func.count()).where(Job.status == "failed").group_by(blame))
    return {row[0]: row[1] for row in rows if row[0] is not None}


def age_of_oldest_queued(session: Session) -> float:
    """Return for how many seconds the job that waits longest is queued; 0.0 if none is."""
    since = func.min(func.coalesce(Job.queued_at, Job.created_at))
    queued_at = session.scalar(select(since).where(Job.status == "queued"))
    return 0.0 if queued_at is None else max(0.0, read_clock(session) - queued_at)
