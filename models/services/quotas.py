"""Quotas: how much of each thing one customer may have, by the operator's defaults or by its own limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy.orm import Session

from models.errors import JobError
from models.records import customers, holdings, jobs, training_shares
from models.records.customers import Customer
from models.services.errors import QuotaExceeded, RateQuotaExceeded, StorageQuotaExceeded
from models.services.resources import Resources
from models.settings import Settings

QuotaName = Literal[
    "stored_bytes", "files", "models", "keys", "unfinished_jobs", "jobs_per_day", "training_seconds_per_month"
]
NAMES: tuple[QuotaName, ...] = get_args(QuotaName)
# A job's end may be seconds away.
_SOON_S = 10.0


@dataclass(frozen=True, slots=True)
class _Quota:
    setting: str
    what: str
    mend: str
    measure: Callable[[Session, str], float]
    error: type[QuotaExceeded | StorageQuotaExceeded | RateQuotaExceeded] = QuotaExceeded
    retry_after: Callable[[Session, str], float] = lambda _session, _customer_id: _SOON_S  # where the error says that


_QUOTAS: dict[QuotaName, _Quota] = {
    "stored_bytes": _Quota(
        "quota_stored_bytes",
        "bytes of files and versions",
        "Delete files and versions that you no longer need",
        holdings.sum_bytes,
        StorageQuotaExceeded,
    ),
    "files": _Quota("quota_files", "files", "Delete files that you no longer need", holdings.count_files),
    "models": _Quota("quota_models", "models", "Delete models that you no longer need", holdings.count_models),
    "keys": _Quota("quota_keys", "valid keys", "Revoke keys that nobody uses", holdings.count_keys),
    "unfinished_jobs": _Quota(
        "max_unfinished_jobs",
        "jobs that wait, run or are paused",
        "Wait for one to end, or cancel one",
        jobs.count_unfinished,
        RateQuotaExceeded,
    ),
    "jobs_per_day": _Quota(
        "quota_jobs_per_day",
        "jobs in 24 hours",
        "Wait until the first of them is a day old",
        holdings.count_jobs_of_a_day,
        RateQuotaExceeded,
        holdings.seconds_until_a_job_is_a_day_old,
    ),
    "training_seconds_per_month": _Quota(
        "quota_training_seconds_per_month",
        "seconds of training this month",
        "Wait for the next month (UTC)",
        training_shares.used_this_month,
        RateQuotaExceeded,
        training_shares.seconds_until_next_month,
    ),
}


@dataclass(frozen=True, slots=True)
class QuotaState:
    """One quota of a customer: its limit (None: none), and what is used of it."""

    name: QuotaName
    limit: int | None
    used: int
    default: bool  # the operator's for everybody


def limit_of(settings: Settings, customer: Customer, name: QuotaName) -> int | None:
    """Return a customer's limit, its own or the operator's default. None: no limit."""
    default: int | None = getattr(settings, _QUOTAS[name].setting)
    return customer.limits.get(name, default)


def check(session: Session, settings: Settings, customer: Customer, adding: Mapping[QuotaName, int]) -> None:
    """Raise QuotaExceeded, StorageQuotaExceeded or RateQuotaExceeded if what is added exceeds a limit.

    Hold the customer's lock, so that two requests cannot both add the last one.
    """
    for name, more in adding.items():
        limit = limit_of(settings, customer, name)
        if limit is None:
            continue
        used = int(_QUOTAS[name].measure(session, customer.id))
        if used + more > limit:
            raise _exceeded(session, customer, name, limit, used)


def check_soon(resources: Resources, customer_id: str, adding: Mapping[QuotaName, int]) -> None:
    """Raise like `check`, before the work whose result `check` would refuse. Raises NotFound for the customer."""
    with resources.database.reading() as session:
        check(session, resources.settings, customers.require(session, customer_id), adding)


def find_spent(session: Session, settings: Settings, customer: Customer) -> JobError | None:
    """Return the reason why a job that was accepted is not trained any more: the month's seconds are used up."""
    name: QuotaName = "training_seconds_per_month"
    limit = limit_of(settings, customer, name)
    if limit is None:
        return None
    used = int(_QUOTAS[name].measure(session, customer.id))
    if used < limit:
        return None
    return JobError.of(_exceeded(session, customer, name, limit, used), blame="user")


def measure(resources: Resources, customer_id: str) -> list[QuotaState]:
    """Return every quota of a customer; raises NotFound."""
    with resources.database.reading() as session:
        customer = customers.require(session, customer_id)
        return [
            QuotaState(
                name,
                limit_of(resources.settings, customer, name),
                int(_QUOTAS[name].measure(session, customer_id)),
                name not in customer.limits,
            )
            for name in NAMES
        ]


def _exceeded(
    session: Session, customer: Customer, name: QuotaName, limit: int, used: int
) -> QuotaExceeded | StorageQuotaExceeded | RateQuotaExceeded:
    quota = _QUOTAS[name]
    data: dict[str, Any] = {"limit": limit, "used": used, "what": quota.what, "mend": quota.mend}
    details = [{"quota": name, "limit": limit, "used": used}]
    if issubclass(quota.error, RateQuotaExceeded):
        return quota.error(**data, details=details, retry_after_s=quota.retry_after(session, customer.id))
    return quota.error(**data, details=details)
