"""Usage: counts of predictors, what is trained and stored, and sums for customers and invoices."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Literal, get_args

from models.errors import NotFound
from models.identifiers import new_id
from models.records import customers, usage
from models.records.jobs import Job
from models.records.pages import Page
from models.records.usage import Bucket
from models.services.resources import Resources

HOUR_S = 3_600
DAY_S = 86_400
Group = Literal["kind", "model"]
GROUPS: tuple[Group, ...] = get_args(Group)
_HOURS_OF_A_DAY = 24
_MADE_UP_S = 31 * DAY_S
_ASKED = 100  # customers whose last record says when the last sweep was
_CURSOR_DIGITS = 12


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
    """Sums of one hour or day, kind and model; kind and model are empty where they were summed over."""

    start: int
    kind: str
    model: str
    requests: int
    rows: int
    tokens: int
    seconds: float
    byte_days: float = 0.0

    @property
    def id(self) -> str:
        """The cursor behind it in a list."""
        return f"{self.start}/{self.kind}/{self.model}"


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


def record_storage(resources: Resources) -> int:
    """Write what every customer stores, once for this hour, whoever does it; return how many records there were.

    The first sweep in an hour counts for all of it. Hours before it in which nobody swept are made up for, a month of
    them at most, by what was there then and still is: each in a transaction of its own, the oldest first, so that a
    sweep that ends in the middle is gone on with.
    """
    with resources.database.reading() as session:
        now = resources.database.now(session)
        hour = int(now // HOUR_S) * HOUR_S
        found = usage.measure_storage(session, made_before=now)
        if not found or usage.is_written(session, _storage_id(*min(found)[:2], hour)):
            return 0
        last = usage.last_storage_hour(session, sorted({customer_id for customer_id, _, _ in found})[:_ASKED])
    missed = range(max(last or hour, hour - _MADE_UP_S) + HOUR_S, hour, HOUR_S)
    return sum(_record_hour(resources, each) for each in (*missed, hour))


def _record_hour(resources: Resources, hour: int) -> int:
    with resources.database.transaction() as session:
        now = resources.database.now(session)
        stored = usage.measure_storage(session, made_before=min(now, hour + HOUR_S))
        present = customers.keep(session, {customer_id for customer_id, _, _ in stored})
        records = [_storage_record(each, hour, now) for each in stored if each[0] in present]
        # In order: two sweepers that write the same records do not deadlock.
        usage.add_once(session, sorted(records, key=itemgetter("id")))
    return len(records)


def training_record(job: Job, model: str, seconds: float, now: float) -> dict[str, Any]:
    """Return the row of a job that has succeeded; one per job, however often it is written."""
    return {
        "id": f"usage-{job.id}",
        "customer_id": job.customer_id,
        "hour": int(now // HOUR_S) * HOUR_S,
        "kind": "training",
        "model": model,
        "job_id": job.id,
        "requests": 1,
        "rows": job.trained_rows,
        "tokens": job.trained_tokens,
        "seconds": seconds,
        "created_at": now,
    }


def _storage_record(stored: tuple[str, str, int], hour: int, now: float) -> dict[str, Any]:
    customer_id, model, size = stored
    return {
        "id": _storage_id(customer_id, model, hour),
        "customer_id": customer_id,
        "hour": hour,
        "kind": "storage",
        "model": model,
        "job_id": None,
        "requests": 0,
        "rows": 0,
        "tokens": 0,
        "seconds": 0.0,
        "byte_days": size / _HOURS_OF_A_DAY,
        "created_at": now,
    }


def list_page(
    resources: Resources,
    customer_id: str,
    start: float,
    end: float,
    *,
    width_s: int = HOUR_S,
    by: Collection[Group] = GROUPS,
    after: str | None = None,
    limit: int = 1_000,
) -> Page[UsageSummary]:
    """Return sums of the hours that begin in [start, end), oldest first: by hour or day, kind and model.

    What `by` leaves out is summed over. Raises NotFound for the customer and for a cursor that is none.
    """
    position = None if after is None else _read_cursor(after)
    with resources.database.reading() as session:
        customers.require(session, customer_id)
        hours = (start, end)
        rows = usage.sum_up(session, customer_id, hours, width_s=width_s, by=by, after=position, limit=limit + 1)
    found = [
        UsageSummary(
            row.bucket.start,
            row.bucket.kind,
            row.bucket.model,
            row.requests,
            row.rows,
            row.tokens,
            row.seconds,
            row.byte_days,
        )
        for row in rows
    ]
    return Page(found[:limit], has_more=len(found) > limit)


def _storage_id(customer_id: str, model: str, hour: int) -> str:
    digest = hashlib.sha256(f"{customer_id}/{model}/{hour}".encode()).hexdigest()
    return f"storage-{digest[:32]}"


def _read_cursor(after: str) -> Bucket:
    start, _, rest = after.partition("/")
    kind, slash, model = rest.partition("/")
    if not slash or not start.isdecimal() or len(start) > _CURSOR_DIGITS:
        raise NotFound(kind="usage bucket", id=after, param="after")
    return Bucket(int(start), kind, model)
