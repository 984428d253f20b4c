"""Models, their immutable versions, and the aliases that say which version answers."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from models.records.base import Base


class Model(Base):
    """The stable name that a customer calls. `name` is the suffix of its jobs."""

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("customer_id", "name"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    customer_id: Mapped[str] = mapped_column(ForeignKey("customers.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(64))
    base_model: Mapped[str] = mapped_column(String(128))
    full_name: Mapped[str] = mapped_column(String(255), index=True)
    task: Mapped[str] = mapped_column(String(40))
    created_at: Mapped[float]


class ModelVersion(Base):
    """One immutable version, made by one candidate of one job. Published at most once."""

    __tablename__ = "model_versions"
    __table_args__ = (UniqueConstraint("model_id", "number"), UniqueConstraint("job_id", "candidate"))

    id: Mapped[str] = mapped_column(String(40), primary_key=True)  # "ftckpt-…": the checkpoint id on the wire
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"), index=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    number: Mapped[int]
    candidate: Mapped[str] = mapped_column(String(40))  # learning.events.Candidate.name
    artifact_prefix: Mapped[str] = mapped_column(String(512))  # in the object store; manifest.json below it
    manifest_sha256: Mapped[str] = mapped_column(String(64))
    bytes: Mapped[int]
    metrics: Mapped[dict[str, float]]
    report: Mapped[dict[str, Any]]
    created_at: Mapped[float]


class Alias(Base):
    """A name for a version of a model. `live` is the one that answers when no version is named."""

    __tablename__ = "aliases"

    model_id: Mapped[str] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    number: Mapped[int]
    previous: Mapped[int | None]  # where it pointed before: what a roll-back returns to
    updated_at: Mapped[float]
