"""Files: immutable, content-hashed, validated uploads."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ForeignKey, String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.errors import NotFound
from models.records.base import Base
from models.records.pages import Order, Page, fetch_page

RESULTS = "fine-tune-results"  # the purpose of what a job left: no data to learn from


class File(Base):
    """One upload, or what a job left.

    `profile` is the result of validation: format, task, rows, columns, labels, warnings.
    """

    __tablename__ = "files"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    customer_id: Mapped[str] = mapped_column(ForeignKey("customers.id", ondelete="CASCADE"), index=True)
    filename: Mapped[str] = mapped_column(String(255))
    purpose: Mapped[str] = mapped_column(String(32))
    bytes: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))
    object_key: Mapped[str] = mapped_column(String(512))
    profile: Mapped[dict[str, Any]]
    created_at: Mapped[float]


def require(session: Session, customer_id: str, file_id: str, *, param: str | None = None) -> File:
    """Return one of the customer's files; raises NotFound, which names the parameter that asked for it."""
    file = session.scalar(select(File).where(File.customer_id == customer_id, File.id == file_id))
    if file is None:
        raise NotFound(kind="file", id=file_id, param=param)
    return file


def fetch_list(
    session: Session, customer_id: str, *, after: str | None, limit: int, purpose: str | None = None
) -> Page[File]:
    """Return the customer's files, newest first."""
    statement = select(File).where(File.customer_id == customer_id)
    if purpose is not None:
        statement = statement.where(File.purpose == purpose)
    order = Order("file", (File.created_at, File.id), File.id)
    return fetch_page(session, statement, order, after=after, limit=limit)


def known_ids(session: Session, file_ids: Collection[str]) -> set[str]:
    """Return the ids that exist, of any customer, for the sweeper."""
    return set(session.scalars(select(File.id).where(File.id.in_(file_ids))))
