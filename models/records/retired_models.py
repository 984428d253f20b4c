"""Names of deleted models, with their last version numbers: a pinned name never comes to mean other weights."""

from __future__ import annotations

from sqlalchemy import ForeignKey, String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.records.base import Base


class RetiredModel(Base):
    """A name whose model was deleted. It stays when the name is taken again."""

    __tablename__ = "retired_models"

    customer_id: Mapped[str] = mapped_column(ForeignKey("customers.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    last_number: Mapped[int]


def retire(session: Session, customer_id: str, name: str, last_number: int) -> None:
    """Note the last number of a model that is deleted; the customer's lock is held."""
    retired = session.get(RetiredModel, (customer_id, name))
    if retired is not None:
        retired.last_number = max(retired.last_number, last_number)
    elif last_number:
        session.add(RetiredModel(customer_id=customer_id, name=name, last_number=last_number))


def find_last_number(session: Session, customer_id: str, name: str) -> int:
    """Return the last number that deleted models of this name gave to a version, 0 if there were none."""
    last = select(RetiredModel.last_number).where(RetiredModel.customer_id == customer_id, RetiredModel.name == name)
    return session.scalar(last) or 0
