"""Answers to POSTs that carried an `Idempotency-Key`, to be replayed."""

from __future__ import annotations

from typing import Any

from sqlalchemy import String, cast, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.records.base import Base
from models.records.clock import clock


class IdempotentAnswer(Base):
    """An answer kept under its key. `scope`: the customer's id, or `operator`; `status`: NULL until it is there.

    `created_at`: when its request was last known to be worked on.
    """

    __tablename__ = "idempotent_answers"

    scope: Mapped[str] = mapped_column(String(40), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_sha256: Mapped[str] = mapped_column(String(64))
    status: Mapped[int | None]
    body: Mapped[dict[str, Any] | None]
    created_at: Mapped[float] = mapped_column(index=True)


def add(session: Session, scope: str, key: str, request_sha256: str) -> bool:
    """Note that a request is being worked on; False if its key is taken (also by a transaction yet to commit)."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = (
        insert(IdempotentAnswer)
        .values(scope=scope, key=key, request_sha256=request_sha256, created_at=clock())
        .on_conflict_do_nothing(index_elements=["scope", "key"])
        .returning(IdempotentAnswer.key)
    )
    return session.execute(statement).first() is not None


def find(session: Session, scope: str, key: str) -> IdempotentAnswer | None:
    """Return the row of this key, held against other writers."""
    statement = select(IdempotentAnswer).where(IdempotentAnswer.scope == scope, IdempotentAnswer.key == key)
    return session.scalar(statement.with_for_update().execution_options(populate_existing=True))


def touch(session: Session, scope: str, key: str) -> None:
    """Note that a request is still being worked on, unless it has its answer."""
    own = (IdempotentAnswer.scope == scope, IdempotentAnswer.key == key, IdempotentAnswer.status.is_(None))
    session.execute(update(IdempotentAnswer).where(*own).values(created_at=clock()))


def remove(session: Session, scope: str, key: str) -> None:
    """Delete a request that failed, so that it may be tried again."""
    statement = delete(IdempotentAnswer).where(
        IdempotentAnswer.scope == scope, IdempotentAnswer.key == key, IdempotentAnswer.status.is_(None)
    )
    session.execute(statement)


def expire(session: Session, scope: str, key: str, *, older_than_s: float) -> None:
    """Delete one answer if it is old enough."""
    old = IdempotentAnswer.created_at < clock() - older_than_s
    session.execute(delete(IdempotentAnswer).where(IdempotentAnswer.scope == scope, IdempotentAnswer.key == key, old))


def forget(session: Session, *, older_than_s: float) -> int:
    """Delete answers that are no longer replayed; return how many."""
    old = IdempotentAnswer.created_at < clock() - older_than_s
    return len(session.execute(delete(IdempotentAnswer).where(old).returning(IdempotentAnswer.key)).all())


def forget_object(session: Session, scope: str, object_id: str) -> None:
    """Delete the answers that speak of an object: they would be read and replayed after it is gone."""
    speaks = cast(IdempotentAnswer.body, String).contains(object_id, autoescape=True)
    session.execute(delete(IdempotentAnswer).where(IdempotentAnswer.scope == scope, speaks))
