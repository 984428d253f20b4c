"""A log of what predictors may have cached and must forget, written in the transaction that changed it."""

from __future__ import annotations

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from models.records.base import Base


class Change(Base):
    """Predictors read the rows of the last seconds (sequences commit out of order) and drop what they name."""

    __tablename__ = "changes"

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    kind: Mapped[str] = mapped_column(String(20))  # key, model, customer
    subject: Mapped[str] = mapped_column(String(64))  # key hash, customer id
    name: Mapped[str | None] = mapped_column(String(64))  # model name, for kind "model"
    created_at: Mapped[float] = mapped_column(index=True)
