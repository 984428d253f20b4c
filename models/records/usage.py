"""Usage: append-only rows of work done for a customer, and its length."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ForeignKey, Index, Integer, String, func, literal, literal_column, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.records.base import Base
from models.records.files import File
from models.records.versions import Model, ModelVersion


class UsageRecord(Base):
    """One job's training, one flushed aggregate of one hour's predictions of a model, or what one hour stored."""

    __tablename__ = "usage_records"
    __table_args__ = (Index("ix_usage_records_customer_id_hour", "customer_id", "hour"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)  # "usage-<job id>" for a job: billed once
    customer_id: Mapped[str] = mapped_column(ForeignKey("customers.id", ondelete="CASCADE"))
    hour: Mapped[int]  # Unix seconds, start of the hour
    kind: Mapped[str] = mapped_column(String(20))  # training, prediction, embedding, storage
    model: Mapped[str] = mapped_column(String(255))  # full name; of stored files: empty
    job_id: Mapped[str | None] = mapped_column(String(40))
    requests: Mapped[int]
    rows: Mapped[int]
    tokens: Mapped[int]
    seconds: Mapped[float]
    byte_days: Mapped[float] = mapped_column(default=0.0)  # of storage: bytes, a day long
    created_at: Mapped[float]


def add_once(session: Session, records: Sequence[dict[str, Any]]) -> None:
    """Write records unless one with the same id is there already: nothing is billed twice."""
    if not records:
        return
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = insert(UsageRecord).on_conflict_do_nothing(index_elements=["id"])
    # One statement for all, past the session: a predictor writes thousands of them beside its passes.
    session.connection().execute(statement, records)


class Bucket(NamedTuple):
    """What usage is summed up by: a stretch of time, and kind and model unless they are summed over (then empty)."""

    start: int  # Unix seconds, in UTC
    kind: str
    model: str


class Sums(NamedTuple):
    """The sums of one bucket."""

    bucket: Bucket
    requests: int
    rows: int
    tokens: int
    seconds: float
    byte_days: float


def sum_up(
    session: Session,
    customer_id: str,
    hours: tuple[float, float],
    *,
    width_s: int,
    by: Collection[str],
    after: Bucket | None,
    limit: int,
) -> Sequence[Sums]:
    """Return the sums of the hours that begin in [first, second), by bucket, in order, those behind `after`."""
    # Not a parameter: PostgreSQL must see that what is selected is what is grouped by.
    width = literal_column(str(int(width_s)), Integer)
    start = UsageRecord.hour - UsageRecord.hour % width
    kind = UsageRecord.kind if "kind" in by else literal("")
    model = UsageRecord.model if "model" in by else literal("")
    groups = [start, *(getattr(UsageRecord, name) for name in ("kind", "model") if name in by)]
    sums = (UsageRecord.requests, UsageRecord.rows, UsageRecord.tokens, UsageRecord.seconds, UsageRecord.byte_days)
    statement = select(start, kind, model, *map(func.sum, sums)).where(
        UsageRecord.customer_id == customer_id, UsageRecord.hour >= hours[0], UsageRecord.hour < hours[1]
    )
    if after is not None:
        statement = statement.where(tuple_(start, kind, model) > tuple_(*after))
    rows = session.execute(statement.group_by(*groups).order_by(*groups).limit(limit))
    return [
        Sums(Bucket(int(row[0]), row[1], row[2]), int(row[3]), int(row[4]), int(row[5]), float(row[6]), float(row[7]))
        for row in rows
    ]


def is_written(session: Session, record_id: str) -> bool:
    """Return whether there is a record with this id."""
    return session.scalar(select(UsageRecord.id).where(UsageRecord.id == record_id)) is not None


def last_storage_hour(session: Session, customer_ids: Collection[str]) -> int | None:
    """Return the last hour for which anything that one of these customers stores is written down."""
    written = (UsageRecord.customer_id.in_(customer_ids), UsageRecord.kind == "storage")
    return session.scalar(select(func.max(UsageRecord.hour)).where(*written))


def measure_storage(session: Session, *, made_before: float) -> list[tuple[str, str, int]]:
    """Return what every customer stores that was there by then: its id, the model's full name (empty: files), bytes."""
    files = (
        select(File.customer_id, literal(""), func.sum(File.bytes))
        .where(File.created_at < made_before)
        .group_by(File.customer_id)
    )
    versions = (
        select(Model.customer_id, Model.full_name, func.sum(ModelVersion.bytes))
        .join(ModelVersion, ModelVersion.model_id == Model.id)
        .where(ModelVersion.created_at < made_before)
        .group_by(Model.customer_id, Model.full_name)
    )
    return [(row[0], row[1], int(row[2])) for statement in (files, versions) for row in session.execute(statement)]
