"""API keys: hashed, with a prefix to recognise them by, last use, expiry and revocation."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

from sqlalchemy import ColumnElement, Float, ForeignKey, String, and_, bindparam, or_, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.errors import NotFound
from models.records.base import Base
from models.records.clock import clock
from models.records.customers import Customer
from models.records.pages import Order, Page, fetch_page

KeyStatus = Literal["valid", "expired", "revoked"]


class ApiKey(Base):
    """A customer's credential. Only its SHA-256 is kept: 256 bits of entropy need no slow hash."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    customer_id: Mapped[str] = mapped_column(ForeignKey("customers.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(64))
    prefix: Mapped[str] = mapped_column(String(16))
    hash: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]]
    created_at: Mapped[float]
    last_used_at: Mapped[float | None]
    expires_at: Mapped[float | None]
    revoked_at: Mapped[float | None]


def require(session: Session, customer_id: str, key_id: str) -> ApiKey:
    """Return one of the customer's keys, held against other writers; raises NotFound."""
    statement = select(ApiKey).where(ApiKey.customer_id == customer_id, ApiKey.id == key_id).with_for_update()
    key = session.scalar(statement)
    if key is None:
        raise NotFound(kind="key", id=key_id)
    return key


def fetch_list(
    session: Session, customer_id: str, *, after: str | None, limit: int, status: Collection[KeyStatus] = ()
) -> Page[ApiKey]:
    """Return the customer's keys in one of these states, in any if none is named, newest first."""
    statement = select(ApiKey).where(ApiKey.customer_id == customer_id)
    asked = [or_(*(_is(each) for each in status))] if status else []
    order = Order("key", (ApiKey.created_at, ApiKey.id), ApiKey.id)
    return fetch_page(session, statement, order, after=after, limit=limit, only=asked)


def _is(status: KeyStatus) -> ColumnElement[bool]:
    revoked, expired = (
        ApiKey.revoked_at.is_not(None),
        and_(ApiKey.expires_at.is_not(None), ApiKey.expires_at <= clock()),
    )
    return {"revoked": revoked, "expired": and_(~revoked, expired), "valid": and_(~revoked, ~expired)}[status]


def find_by_hash(session: Session, secret_sha256: str) -> tuple[ApiKey, Customer] | None:
    """Return the key with this hash and its customer: the one query without a customer."""
    statement = select(ApiKey, Customer).join(Customer).where(ApiKey.hash == secret_sha256)
    row = session.execute(statement).first()
    return None if row is None else (row[0], row[1])


def fetch_hashes(session: Session, customer_id: str) -> Sequence[str]:
    """Return the hashes of all of the customer's keys."""
    return session.scalars(select(ApiKey.hash).where(ApiKey.customer_id == customer_id).order_by(ApiKey.id)).all()


def touch(session: Session, used: Sequence[tuple[str, float]]) -> None:
    """Note uses (key id, Unix seconds), unless a later one is known; in this order."""
    if not used:
        return
    used_at = bindparam("used_at", type_=Float)
    later = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < used_at)
    statement = update(ApiKey).where(ApiKey.id == bindparam("key_id"), later).values(last_used_at=used_at)
    # One statement for all, past the session: a predictor notes thousands of them beside its passes.
    session.connection().execute(statement, [{"key_id": key_id, "used_at": at} for key_id, at in used])
