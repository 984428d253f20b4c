"""Whose job a worker takes: the first customer in the fair order whose oldest job nobody else is just taking."""

from __future__ import annotations

from sqlalchemy.orm import Session

from models.records import customers, jobs, training_shares
from models.records.jobs import Job
from models.services import attempt_outcome, fairness, quotas
from models.services.resources import Resources


def take_next(session: Session, resources: Resources, worker: str) -> Job | None:
    """Claim the queued job whose customer's turn it is, that customer's oldest. None: none is queued.

    Workers that choose at the same moment do not wait for one another: a customer whose next job another worker is
    just taking is passed over. Only if nothing else is left do they wait, and look again.
    """
    for skip_locked in (True, False, False):
        waiting = fairness.order(training_shares.fetch_waiting(session))
        while waiting:
            customer_id = waiting[0].customer_id
            job_id = jobs.find_oldest_queued(session, customer_id)
            job = None
            if job_id is not None:
                job = jobs.claim(session, job_id, worker, resources.settings.lease_s, skip_locked=skip_locked)
            if job is None:
                del waiting[0]
            elif not _is_refused(session, resources, job):
                return job
    return None


def _is_refused(session: Session, resources: Resources, job: Job) -> bool:
    """Fail a job that was accepted before its customer's training of the month was used up."""
    customer = customers.require(session, job.customer_id)
    spent = quotas.find_spent(session, resources.settings, customer)
    if spent is not None:
        attempt_outcome.fail(session, job, spent)
    return spent is not None
