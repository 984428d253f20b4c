"""Usage: counts of predictors, and sums for customers."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from models.identifiers import new_id
from models.records import customers, usage
from models.services.resources import Resources

HOUR_S = 3_600


@dataclass(frozen=True, slots=True)
class UsageDelta:
    """Requests answered for one customer with one model in one hour, since the last flush.

    The id makes a flush safe to repeat: a delta that arrived is not added again.
    """

    customer_id: str
    model: str  # full name, or the base's name for embeddings
    requests: int
    rows: int
    tokens: int
    seconds: float
    kind: str = "prediction"  # or "embedding"
    hour: int = field(default_factory=lambda: int(time.time()) // HOUR_S * HOUR_S)
    id: str = field(default_factory=lambda: new_id("usage_"))


_FIELDS = tuple(UsageDelta.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class UsageSummary:
    """Sums of one hour, kind and model."""

    hour: int
    kind: str
    model: str
    requests: int
    rows: int
    tokens: int
    seconds: float


def record_predictions(resources: Resources, deltas: list[UsageDelta]) -> None:
    """Write counts of predictions. Those of customers that were deleted meanwhile are dropped."""
    if not deltas:
        return
    with resources.database.transaction() as session:
        present = customers.keep(session, {delta.customer_id for delta in deltas})
        now = resources.database.now(session)
        records = [
            {**{name: getattr(delta, name) for name in _FIELDS}, "job_id": None, "created_at": now}
            for delta in deltas
            if delta.customer_id in present
        ]
        usage.add_once(session, records)


def summarise(resources: Resources, customer_id: str, start: float, end: float) -> list[UsageSummary]:
    """Return sums by hour, kind and model of the hours that begin in [start, end), oldest first."""
    with resources.database.reading() as session:
        rows = usage.summarise(session, customer_id, start, end)
    return [
        UsageSummary(
            hour=int(row.hour),
            kind=row.kind,
            model=row.model,
            requests=int(row.requests),
            rows=int(row.rows),
            tokens=int(row.tokens),
            seconds=float(row.seconds),
        )
        for row in rows
    ]
