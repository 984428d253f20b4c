"""The audit log: who did what to which object, from where. The database itself refuses to change or delete a row.

The one lawful deletion is a trim: it writes down where it cuts before it cuts, never within the last 30 days, and what
was written down can be neither changed nor deleted. Triggers check all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import Index, String, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.identifiers import new_id
from models.records.base import Base
from models.records.clock import clock, read_clock
from models.records.pages import Order, Page, fetch_page

Action = Literal[
    "customer.created",
    "customer.limited",
    "customer.suspended",
    "customer.resumed",
    "customer.deleted",
    "key.created",
    "key.rotated",
    "key.revoked",
    "file.created",
    "file.deleted",
    "job.created",
    "job.cancelled",
    "job.paused",
    "job.resumed",
    "model.changed",
    "model.deleted",
    "version.deleted",
    "alias.moved",
    "alias.rolled_back",
    "alias.deleted",
    "audit.trimmed",
]
ACTIONS: tuple[str, ...] = get_args(Action)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: `operator`, a key's id, or `system` for what Graft does by itself."""

    name: str = "system"
    address: str = ""
    request_id: str = ""


SYSTEM = Actor()


class AuditEvent(Base):
    """One action. It outlives its customer, so it holds ids and numbers, and no names, texts or secrets."""

    __tablename__ = "audit_events"
    __table_args__ = (Index("ix_audit_events_customer_id_created_at", "customer_id", "created_at"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    created_at: Mapped[float] = mapped_column(index=True)
    actor: Mapped[str] = mapped_column(String(40))
    address: Mapped[str] = mapped_column(String(64))
    request_id: Mapped[str] = mapped_column(String(128))
    customer_id: Mapped[str] = mapped_column(String(40))  # no foreign key: the customer may be gone
    action: Mapped[str] = mapped_column(String(40))
    target: Mapped[str] = mapped_column(String(128))
    before: Mapped[dict[str, Any] | None]
    after: Mapped[dict[str, Any] | None]


class AuditTrim(Base):
    """A cut through the log: what is older than `cutoff` (Unix seconds) may be deleted."""

    __tablename__ = "audit_trims"

    cutoff: Mapped[float] = mapped_column(primary_key=True)
    created_at: Mapped[float]


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which actions to list. None: all; times are Unix seconds, `since` included, `until` not."""

    customer_id: str | None = None
    actor: str | None = None
    action: str | None = None
    since: float | None = None
    until: float | None = None


def record(
    session: Session,
    actor: Actor,
    action: Action,
    customer_id: str,
    target: str,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """Write an action, in the transaction that does it."""
    event = AuditEvent(
        id=new_id("audit_"),
        created_at=clock(),
        actor=actor.name,
        address=actor.address[:64],
        request_id=actor.request_id[:128],
        customer_id=customer_id,
        action=action,
        target=target,
        before=before,
        after=after,
    )
    session.add(event)


def fetch_list(session: Session, only: AuditFilter, *, after: str | None, limit: int) -> Page[AuditEvent]:
    """Return the actions that pass the filter, newest first."""
    statement = select(AuditEvent)
    for column, value in (
        (AuditEvent.customer_id, only.customer_id),
        (AuditEvent.actor, only.actor),
        (AuditEvent.action, only.action),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if only.since is not None:
        statement = statement.where(AuditEvent.created_at >= only.since)
    if only.until is not None:
        statement = statement.where(AuditEvent.created_at < only.until)
    order = Order("audit event", (AuditEvent.created_at, AuditEvent.id), AuditEvent.id)
    return fetch_page(session, statement, order, after=after, limit=limit)


def has_older(session: Session, cutoff: float) -> bool:
    """Return whether an action is older than that."""
    oldest = session.scalar(select(func.min(AuditEvent.created_at)))
    return oldest is not None and oldest < cutoff


def cut(session: Session, actor: Actor, cutoff: float) -> None:
    """Write down a cut, once, and that it was made. Raises SQLAlchemy's DBAPIError within the last 30 days."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    once = insert(AuditTrim).values(cutoff=cutoff, created_at=read_clock(session)).on_conflict_do_nothing()
    if session.scalars(once.returning(AuditTrim.cutoff)).all():  # by this transaction, and by no other sweeper
        record(session, actor, "audit.trimmed", "", AuditEvent.__tablename__, after={"cutoff": cutoff})


def delete_oldest(session: Session, cutoff: float, most: int) -> int:
    """Delete at most so many actions behind a cut, the oldest first; return how many."""
    oldest = select(AuditEvent.id).where(AuditEvent.created_at < cutoff).order_by(AuditEvent.created_at).limit(most)
    ids = session.scalars(oldest).all()
    session.execute(delete(AuditEvent).where(AuditEvent.id.in_(ids)))
    return len(ids)
