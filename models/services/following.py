"""News of followed jobs: one look for all that one process follows, whoever follows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from models.errors import NotFound
from models.records import job_events, job_marks, jobs
from models.records.job_events import JobEvent
from models.records.jobs import Job
from models.services.resources import Resources

_BATCH = 100


@dataclass(frozen=True, slots=True)
class Position:
    """How far a job is known: its mark, and the number of its last event; None before the first look."""

    customer_id: str
    job_id: str
    mark: tuple[Any, ...] | None = None
    seq: int = 0


@dataclass(frozen=True, slots=True)
class News:
    """A job that has changed, with its events after the number `since`; `job` is None if it is gone."""

    job_id: str
    mark: tuple[Any, ...] | None = None
    job: Job | None = None
    since: int = 0
    events: Sequence[JobEvent] = ()


def look(resources: Resources, known: Sequence[Position]) -> list[News]:
    """Return what has changed. Whoever follows a job has been shown to be its customer's."""
    found: list[News] = []
    with resources.database.reading() as session:
        marks = job_marks.fetch(session, [position.job_id for position in known])
        for position in known:
            mark = marks.get(position.job_id)
            if mark is not None and mark == position.mark:
                continue
            try:
                # The job first: all that it did before it ended is then among the events that are read after it.
                job = jobs.require(session, position.customer_id, position.job_id)
            except NotFound:
                found.append(News(position.job_id))
                continue
            since = position.seq if position.mark is not None else job_marks.newest_event(mark or ())
            found.append(News(job.id, mark, job, since, _events(session, job.id, since)))
    return found


def _events(session: Session, job_id: str, seq: int) -> list[JobEvent]:
    events: list[JobEvent] = []
    while batch := job_events.fetch_since(session, job_id, events[-1].seq if events else seq, _BATCH):
        events += batch
        if len(batch) < _BATCH:
            break
    return events
