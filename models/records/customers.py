"""Customers: the tenants. Every other row belongs to one."""

from __future__ import annotations

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from models.records.base import Base


class Customer(Base):
    """A tenant: owns keys, files, jobs and models."""

    __tablename__ = "customers"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    meta: Mapped[dict[str, str]] = mapped_column("metadata", default=dict)
    created_at: Mapped[float]
