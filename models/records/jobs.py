"""Jobs and their events: one row per training attempt series, states from one table of transitions."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from models.records.base import Base


class Job(Base):
    """One fine-tuning job. The row is the truth and its own outbox; the queue only wakes workers up.

    `attempt` is the fencing token: every write of a running job names it together with `worker`.
    """

    __tablename__ = "jobs"
    __table_args__ = (Index("ix_jobs_status_created_at", "status", "created_at"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    customer_id: Mapped[str] = mapped_column(ForeignKey("customers.id", ondelete="CASCADE"), index=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"), index=True)
    training_file_id: Mapped[str] = mapped_column(String(40))
    validation_file_id: Mapped[str | None] = mapped_column(String(40))

    # What was asked for
    base_model: Mapped[str] = mapped_column(String(128))
    suffix: Mapped[str] = mapped_column(String(64))
    task: Mapped[str] = mapped_column(String(40))
    strategy: Mapped[str] = mapped_column(String(20))
    seed: Mapped[int]
    hyperparameters: Mapped[dict[str, Any]]
    meta: Mapped[dict[str, str]] = mapped_column("metadata", default=dict)

    # Where it is
    status: Mapped[str] = mapped_column(String(20))
    step: Mapped[str | None] = mapped_column(String(20))
    percent: Mapped[float] = mapped_column(default=0.0)
    seconds_remaining: Mapped[float | None]
    stop_requested: Mapped[str | None] = mapped_column(String(10))  # "cancel" or "pause", for a running job
    attempt: Mapped[int] = mapped_column(default=0)
    # Attempts that ended through nobody's fault (paused, worker shut down): they count as fences, not as failures.
    excused: Mapped[int] = mapped_column(default=0)
    worker: Mapped[str | None] = mapped_column(String(128))
    lease_until: Mapped[float | None]
    sent_at: Mapped[float | None]  # when its wake-up message was last handed to the broker
    created_at: Mapped[float]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]

    # What came out
    fine_tuned_model: Mapped[str | None] = mapped_column(String(255))  # set with the first servable version
    resolved: Mapped[dict[str, Any] | None]  # the hyperparameters as they became
    report: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]  # code, message, param, blame ("user" or "server")
    trained_rows: Mapped[int | None]
    trained_tokens: Mapped[int | None]


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
