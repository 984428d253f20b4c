"""Usage: append-only. What was run for whom, and how long it took."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

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
