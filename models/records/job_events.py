"""Events of jobs: what happened to one, in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ForeignKey, String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.errors import NotFound
from models.identifiers import new_id
from models.records.base import Base
from models.records.clock import read_clock
from models.records.pages import Order, Page, fetch_page


class JobEvent(Base):
    """Something that happened to a job, in order of `seq`."""

    __tablename__ = "job_events"

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(40), unique=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    level: Mapped[str] = mapped_column(String(10))  # info, warn, error
    type: Mapped[str] = mapped_column(String(10))  # message, metrics
    message: Mapped[str]
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[float]


def storable(text: str) -> str:
    """Return the text without characters that no column can hold: a message may quote a customer's data."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def add(
    session: Session,
    job_id: str,
    message: str,
    *,
    level: str = "info",
    type: str = "message",  # noqa: A002 — the name on the wire
    data: dict[str, Any] | None = None,
) -> JobEvent:
    """Write what happened to a job; hold its row's lock."""
    event = JobEvent(
        id=new_id("ftevent-"),
        job_id=job_id,
        level=level,
        type=type,
        message=storable(message),
        data=data or {},
        created_at=read_clock(session),
    )
    session.add(event)
    session.flush()
    return event


def fetch(session: Session, job_id: str, *, after: str | None, limit: int) -> Page[JobEvent]:
    """Return a job's events, newest first."""
    statement = select(JobEvent).where(JobEvent.job_id == job_id)
    return fetch_page(session, statement, Order("event", (JobEvent.seq,), JobEvent.id), after=after, limit=limit)


def require(session: Session, job_id: str, event_id: str) -> JobEvent:
    """Return one event of a job, the cursor of a list. Raises NotFound."""
    event = session.scalar(select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.id == event_id))
    if event is None:
        raise NotFound(kind="event", id=event_id, param="after")
    return event


def fetch_since(session: Session, job_id: str, seq: int, limit: int) -> Sequence[JobEvent]:
    """Return a job's events after one, oldest first."""
    statement = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.seq > seq)
    return session.scalars(statement.order_by(JobEvent.seq).limit(limit)).all()
