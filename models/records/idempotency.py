"""Answers to POSTs that carried an `Idempotency-Key`, to be replayed."""

from __future__ import annotations

from typing import Any

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from models.records.base import Base


class IdempotentAnswer(Base):
    """`scope` is the customer's id, or `operator`. `status` is NULL while the first request is being worked on."""

    __tablename__ = "idempotent_answers"

    scope: Mapped[str] = mapped_column(String(40), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_sha256: Mapped[str] = mapped_column(String(64))
    status: Mapped[int | None]
    body: Mapped[dict[str, Any] | None]
    created_at: Mapped[float]
