"""Lists with a cursor: newest first, `after` is the id of the last row that the caller has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from models.errors import NotFound

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Some rows of a list, and whether more follow."""

    data: list[Row]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Order:
    """The order of a list: by columns that together are unique. `kind` names its rows where a cursor is not found."""

    kind: str
    columns: tuple[InstrumentedAttribute[Any], ...]
    id: InstrumentedAttribute[str]  # the cursor


def fetch_page(
    session: Session,
    statement: Select[Row],
    order: Order,
    *,
    after: str | None,
    limit: int,
    only: Sequence[ColumnElement[bool]] = (),
) -> Page[Row]:
    """Return one page of `statement`, in descending order, of the rows for which `only` holds.

    The cursor's row is looked up with the statement's own conditions: an id of another customer is as unknown as one
    that was never issued, and raises NotFound. `only` is not asked of it: a row may have left the filter since its
    page was read, and the next page begins behind it all the same.
    """
    if after is not None:
        position = session.execute(statement.with_only_columns(*order.columns).where(order.id == after)).first()
        if position is None:
            raise NotFound(kind=order.kind, id=after, param="after")
        statement = statement.where(tuple_(*order.columns) < tuple_(*position))
    statement = statement.where(*only)
    rows = session.scalars(statement.order_by(*(column.desc() for column in order.columns)).limit(limit + 1)).all()
    return Page(list(rows[:limit]), has_more=len(rows) > limit)
