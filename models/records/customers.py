"""Customers: the tenants. Every other row belongs to one."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.errors import NotFound
from models.records.base import Base
from models.records.pages import Order, Page, fetch_page


class Customer(Base):
    """A tenant: owns keys, files, jobs and models."""

    __tablename__ = "customers"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    meta: Mapped[dict[str, str]] = mapped_column("metadata", default=dict)
    limits: Mapped[dict[str, int]] = mapped_column(default=dict)  # its own, by the quota's name; else the default
    suspended_at: Mapped[float | None]  # None: it is not
    created_at: Mapped[float]


def require(session: Session, customer_id: str) -> Customer:
    """Return the customer; raises NotFound."""
    customer = session.get(Customer, customer_id)
    if customer is None:
        raise NotFound(kind="customer", id=customer_id)
    return customer


def lock(session: Session, customer_id: str) -> Customer:
    """Return the customer, held against other writers that need the same order of events: one submits after the other.

    Locks are always taken customer first, then job, then model. Raises NotFound.
    """
    statement = select(Customer).where(Customer.id == customer_id).with_for_update(key_share=True)
    customer = session.scalar(statement)
    if customer is None:
        raise NotFound(kind="customer", id=customer_id)
    return customer


def lock_for_deletion(session: Session, customer_id: str) -> Customer:
    """Return the customer, held against every writer of a row that points to it; raises NotFound."""
    customer = session.scalar(select(Customer).where(Customer.id == customer_id).with_for_update())
    if customer is None:
        raise NotFound(kind="customer", id=customer_id)
    return customer


def keep(session: Session, customer_ids: Collection[str]) -> set[str]:
    """Return the customers that exist; they cannot be deleted before this transaction ends.

    Writers of a customer's rows call this first. PostgreSQL would take this lock by itself, but late: a row that is
    updated twice in a transaction has its foreign keys checked again, after its own lock, and a deletion, which locks
    the customer before the rows, would deadlock with it.
    """
    statement = select(Customer.id).where(Customer.id.in_(sorted(customer_ids))).order_by(Customer.id)
    return set(session.scalars(statement.with_for_update(read=True, key_share=True)))


def find_by_name(session: Session, name: str) -> Customer | None:
    """Return the customer of this name."""
    return session.scalar(select(Customer).where(Customer.name == name))


def fetch_list(session: Session, *, after: str | None, limit: int) -> Page[Customer]:
    """Return customers, newest first."""
    order = Order("customer", (Customer.created_at, Customer.id), Customer.id)
    return fetch_page(session, select(Customer), order, after=after, limit=limit)


def known_ids(session: Session, customer_ids: Collection[str]) -> set[str]:
    """Return the ids that exist."""
    return set(session.scalars(select(Customer.id).where(Customer.id.in_(customer_ids))))
