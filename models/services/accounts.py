"""A customer's limits and suspension, as the operator sets them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session

from models.records import audit, changes, customers, job_events, jobs, keys
from models.records.audit import Action
from models.records.customers import Customer
from models.services.jobs import wake
from models.services.metadata import check_metadata
from models.services.quotas import QuotaName
from models.services.resources import Resources


@dataclass(frozen=True, slots=True)
class AccountChange:
    """What to change; None: leave it as it is."""

    limits: Mapping[QuotaName, int | None] | None = None  # of the named ones; None: the operator's default again
    suspended: bool | None = None
    metadata: dict[str, str] | None = None


def update(resources: Resources, customer_id: str, change: AccountChange) -> Customer:
    """Change a customer; again is no error. Raises NotFound, InvalidMetadata.

    While it is suspended its keys are refused and nothing of it is trained: what waits or runs is paused, and queued
    again when it is resumed. What the customer paused itself stays paused.
    """
    pairs = None if change.metadata is None else check_metadata(change.metadata)
    resumed: list[str] = []
    with resources.database.transaction() as session:
        customer = customers.lock(session, customer_id)
        before, was_suspended = dict(customer.limits), customer.suspended_at is not None
        if pairs is not None:
            customer.meta = pairs
        if change.limits is not None:
            merged: dict[str, int | None] = dict(customer.limits)
            for name, limit in change.limits.items():
                merged[name] = limit
            customer.limits = {name: limit for name, limit in merged.items() if limit is not None}
            if customer.limits != before:
                after = dict(customer.limits)
                audit.record(
                    session, resources.actor, "customer.limited", customer_id, customer_id, before=before, after=after
                )
        if change.suspended is True and not was_suspended:
            customer.suspended_at = resources.database.now(session)
            _hold_jobs(session, customer_id)
        elif change.suspended is False and was_suspended:
            customer.suspended_at = None
            resumed = _release_jobs(session, resources.database.now(session), customer_id)
        if was_suspended != (customer.suspended_at is not None):
            action: Action = "customer.resumed" if was_suspended else "customer.suspended"
            audit.record(session, resources.actor, action, customer_id, customer_id)
            for secret_sha256 in keys.fetch_hashes(session, customer_id):
                changes.record(session, "key", secret_sha256)
    wake(resources, resumed)
    return customer


def _hold_jobs(session: Session, customer_id: str) -> None:
    for job in jobs.lock_unfinished(session, customer_id):
        if job.status == "queued":
            job.status, job.held = "paused", True
            job_events.add(session, job.id, "Job paused: the operator suspended its customer.")
        elif job.status == "running" and job.stop_requested is None:
            job.stop_requested, job.held = "pause", True
            job_events.add(session, job.id, "Pause requested: the operator suspended its customer.")


def _release_jobs(session: Session, now: float, customer_id: str) -> list[str]:
    """Queue what the suspension paused, or take back a pause that its worker has not read; return what is queued."""
    queued = []
    for job in jobs.lock_unfinished(session, customer_id):
        if not job.held:
            continue
        job.held = False
        if job.status == "paused":
            job.status, job.queued_at, job.sent_at = "queued", now, None
            job_events.add(session, job.id, "Job resumed with its customer; it waits for a worker.")
            queued.append(job.id)
        elif job.stop_requested == "pause":
            job.stop_requested = None
            job_events.add(session, job.id, "Pause taken back.")
    return queued
