"""Training that customers used lately, in seconds of workers: what fairness and monthly quotas go by.

Not what is billed: a run that was cancelled or that failed has used a worker, too.
"""

from __future__ import annotations

import calendar
import time
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import ForeignKey, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.records.base import Base
from models.records.clock import read_clock
from models.records.customers import Customer
from models.records.jobs import Job

# What was used an hour ago counts half.
HALF_LIFE_S = 3_600.0


class TrainingShare(Base):
    """One customer's sums, brought up to date in the transaction that ends an attempt: each attempt counts once."""

    __tablename__ = "training_shares"

    customer_id: Mapped[str] = mapped_column(ForeignKey("customers.id", ondelete="CASCADE"), primary_key=True)
    used_s: Mapped[float]  # decayed to `ended_at`
    ended_at: Mapped[float]  # when the customer's last attempt ended
    month: Mapped[int]  # in UTC, 202601
    month_s: Mapped[float]  # in that month, without attempts that ended through the server's fault


class WaitingCustomer(NamedTuple):
    """A customer with queued jobs."""

    customer_id: str
    running: int  # jobs
    waits_since: float  # the later of when it queued its longest waiting job and when its last attempt ended
    used_s: float  # seconds of training lately, decayed to now


def add(session: Session, customer_id: str, seconds: float, *, now: float, charged: bool) -> None:
    """Count an attempt that ends; the customer is kept. Locks the share last of all rows."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    empty = {"customer_id": customer_id, "used_s": 0.0, "ended_at": now, "month": 0, "month_s": 0.0}
    session.execute(insert(TrainingShare).values(empty).on_conflict_do_nothing(index_elements=["customer_id"]))
    statement = select(TrainingShare).where(TrainingShare.customer_id == customer_id).with_for_update()
    share = session.scalars(statement.execution_options(populate_existing=True)).one()
    share.used_s = _decayed(share.used_s, now - share.ended_at) + seconds
    share.ended_at = max(share.ended_at, now)
    month = _month(now)
    if share.month != month:
        share.month, share.month_s = month, 0.0
    if charged:
        share.month_s += seconds
    session.flush()


def used_this_month(session: Session, customer_id: str) -> float:
    """Return the seconds that workers trained for the customer since the month began, in UTC."""
    share = session.get(TrainingShare, customer_id)
    return share.month_s if share is not None and share.month == _month(read_clock(session)) else 0.0


def seconds_until_next_month(session: Session, _customer_id: str) -> float:
    """Return how long the month in UTC still lasts."""
    now = read_clock(session)
    return _next_month(now) - now


def fetch_waiting(session: Session) -> Sequence[WaitingCustomer]:
    """Return the customers that have queued jobs."""
    now = read_clock(session)
    since = func.min(func.coalesce(Job.queued_at, Job.created_at)).label("since")
    queued = select(Job.customer_id, since).where(Job.status == "queued").group_by(Job.customer_id).subquery()
    number = func.count().label("number")
    running = select(Job.customer_id, number).where(Job.status == "running").group_by(Job.customer_id).subquery()
    statement = (
        select(
            queued.c.customer_id,
            func.coalesce(running.c.number, 0),
            queued.c.since,
            TrainingShare.used_s,
            TrainingShare.ended_at,
        )
        .join(Customer, Customer.id == queued.c.customer_id)
        .where(Customer.suspended_at.is_(None))
        .outerjoin(running, running.c.customer_id == queued.c.customer_id)
        .outerjoin(TrainingShare, TrainingShare.customer_id == queued.c.customer_id)
    )
    return [
        WaitingCustomer(
            customer_id,
            running=jobs,
            waits_since=since if ended_at is None else max(since, ended_at),
            used_s=0.0 if used_s is None else _decayed(used_s, now - ended_at),
        )
        for customer_id, jobs, since, used_s, ended_at in session.execute(statement)
    ]


def _decayed(used_s: float, age_s: float) -> float:
    return float(used_s * 0.5 ** (max(0.0, age_s) / HALF_LIFE_S))


def _next_month(now: float) -> float:
    date = time.gmtime(now)
    december = date.tm_mon == 12
    return float(calendar.timegm((date.tm_year + december, 1 if december else date.tm_mon + 1, 1, 0, 0, 0)))


def _month(now: float) -> int:
    date = time.gmtime(now)
    return date.tm_year * 100 + date.tm_mon
