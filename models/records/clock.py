"""The database's clock. Leases are judged by it alone: the clocks of API servers and workers differ."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Double, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class clock(FunctionElement[float]):  # noqa: N801 — reads as the SQL function that it is: `Job.lease_until < clock()`
    """Unix seconds as a float, now: not at the start of the transaction, but when the row is looked at.

    A statement that waited for a row's lock must not judge a lease by the time at which it began to wait.
    """

    type = Double()
    inherit_cache = True
    name = "clock"


def read_clock(session: Session) -> float:
    """Return the database's clock, Unix seconds."""
    return float(session.scalar(select(clock())) or 0.0)


@compiles(clock, "sqlite")
def _sqlite(_element: clock, _compiler: SQLCompiler, **_: Any) -> str:
    # `unixepoch('subsec')` needs SQLite 3.42; a Julian day of 64 bits resolves 40 µs.
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(clock, "postgresql")
def _postgresql(_element: clock, _compiler: SQLCompiler, **_: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"
