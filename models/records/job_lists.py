"""Lists of a customer's jobs, filtered by state, name and metadata."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, String, and_, cast, column, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from models.records.jobs import Job
from models.records.pages import Order, Page, fetch_page
from models.records.transitions import UNFINISHED


@dataclass(frozen=True, slots=True)
class JobFilter:
    """The filter of a list of jobs; a field that is empty or None filters nothing."""

    status: Collection[str] = ()  # one of these
    suffix: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)  # all of these pairs


def fetch_list(
    session: Session,
    customer_id: str,
    *,
    after: str | None,
    limit: int,
    only: JobFilter,
) -> Page[Job]:
    """Return the customer's jobs that pass the filter, newest first."""
    statement = select(Job).where(Job.customer_id == customer_id)
    asked: list[ColumnElement[bool]] = []
    if only.status:
        asked.append(Job.status.in_(only.status))
    if only.suffix is not None:
        asked.append(Job.suffix == only.suffix)
    if only.metadata:
        asked.append(_carries(session, only.metadata))
    order = Order("job", (Job.created_at, Job.id), Job.id)
    return fetch_page(session, statement, order, after=after, limit=limit, only=asked)


def _carries(session: Session, metadata: Mapping[str, str]) -> ColumnElement[bool]:
    if session.get_bind().dialect.name == "postgresql":
        return cast(Job.meta, JSONB).contains(metadata)
    # Not by JSON path: a key may hold characters that mean something in one.
    pairs = func.json_each(Job.meta).table_valued(column("key", String), column("value", String))
    found = [
        select(pairs.c.key).where(pairs.c.key == key, pairs.c.value == value).correlate(Job).exists()
        for key, value in metadata.items()
    ]
    return and_(*found)


def find_unfinished_on_base(session: Session, model_id: str, base_model: str, *, besides: str) -> Job | None:
    """Return a job that is making a version of this model on this base, other than the one with the id `besides`."""
    same = (Job.model_id == model_id, Job.base_model == base_model, Job.id != besides)
    return session.scalar(select(Job).where(*same, Job.status.in_(UNFINISHED)).limit(1))
