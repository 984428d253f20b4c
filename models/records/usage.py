"""Usage: append-only rows of work done for a customer, and its length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ForeignKey, Index, Row, String, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.records.base import Base


class UsageRecord(Base):
    """One job's training, or one flushed aggregate of one hour's predictions of one model."""

    __tablename__ = "usage_records"
    __table_args__ = (Index("ix_usage_records_customer_id_hour", "customer_id", "hour"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)  # "usage-<job id>" for a job: billed once
    customer_id: Mapped[str] = mapped_column(ForeignKey("customers.id", ondelete="CASCADE"))
    hour: Mapped[int]  # Unix seconds, start of the hour
    kind: Mapped[str] = mapped_column(String(20))  # training, prediction, embedding
    model: Mapped[str] = mapped_column(String(255))  # full name
    job_id: Mapped[str | None] = mapped_column(String(40))
    requests: Mapped[int]
    rows: Mapped[int]
    tokens: Mapped[int]
    seconds: Mapped[float]
    created_at: Mapped[float]


def add_once(session: Session, records: Sequence[dict[str, Any]]) -> None:
    """Write records unless one with the same id is there already: nothing is billed twice."""
    if not records:
        return
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = insert(UsageRecord).on_conflict_do_nothing(index_elements=["id"])
    # One statement for all, past the session: a predictor writes thousands of them beside its passes.
    session.connection().execute(statement, records)


def summarise(session: Session, customer_id: str, start: float, end: float) -> Sequence[Row[*tuple[Any, ...]]]:
    """Return sums by hour, kind and model of the hours that begin in [start, end), oldest first."""
    groups = (UsageRecord.hour, UsageRecord.kind, UsageRecord.model)
    sums = (
        func.sum(UsageRecord.requests).label("requests"),
        func.sum(UsageRecord.rows).label("rows"),
        func.sum(UsageRecord.tokens).label("tokens"),
        func.sum(UsageRecord.seconds).label("seconds"),
    )
    statement = (
        select(*groups, *sums)
        .where(UsageRecord.customer_id == customer_id, UsageRecord.hour >= start, UsageRecord.hour < end)
        .group_by(*groups)
        .order_by(*groups)
    )
    return session.execute(statement).all()
