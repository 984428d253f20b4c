"""A log of changes to what predictors cache, written in the transaction that makes the change."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import String, delete, insert, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.records.base import Base
from models.records.clock import clock


class Change(Base):
    """Predictors read the rows of the last seconds (sequences commit out of order) and drop what they name."""

    __tablename__ = "changes"

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    kind: Mapped[str] = mapped_column(String(20))  # key, model, customer
    subject: Mapped[str] = mapped_column(String(64))  # key hash, customer id
    name: Mapped[str | None] = mapped_column(String(64))  # model name, for kind "model"
    created_at: Mapped[float] = mapped_column(index=True)


class Changed(NamedTuple):
    """A row of the log without its time."""

    seq: int
    kind: str
    subject: str
    name: str | None


def record(session: Session, kind: str, subject: str, name: str | None = None) -> None:
    """Write that cached entries are out of date; in the transaction that makes them so."""
    session.execute(insert(Change).values(kind=kind, subject=subject, name=name, created_at=clock()))


def since(session: Session, seconds: float) -> list[Changed]:
    """Return the changes of the last seconds, in order."""
    columns = select(Change.seq, Change.kind, Change.subject, Change.name)
    # Plain columns: every predictor reads them every second, beside its passes.
    rows = session.execute(columns.where(Change.created_at > clock() - seconds).order_by(Change.seq))
    return [Changed(*row) for row in rows]


def forget(session: Session, *, older_than_s: float) -> int:
    """Delete changes that every predictor has read; return how many."""
    return len(
        session.execute(delete(Change).where(Change.created_at < clock() - older_than_s).returning(Change.seq)).all()
    )


def forget_before(session: Session, customer_id: str) -> None:
    """Delete the changes of a deleted customer, which name its models, but for the one that says that it is gone.

    After that one is written: SQLite gives the number of a deleted last row again.
    """
    session.execute(delete(Change).where(Change.subject == customer_id, Change.kind != "customer"))
