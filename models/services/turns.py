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
        for one in fairness.order(training_shares.fetch_waiting(session)):
            job = _try(session, resources, worker, one.customer_id, skip_locked=skip_locked)
            if job is not None:
                return job
    return None


def is_refused(session: Session, resources: Resources, job: Job) -> bool:
    """Fail a claimed job that was accepted before its customer's training of the month was used up.

    End the transaction then: whoever waits for another job must not hold this one.
    """
    customer = customers.require(session, job.customer_id)
    spent = quotas.find_spent(session, resources.settings, customer)
    if spent is not None:
        attempt_outcome.fail(session, job, spent)
    return spent is not None


def _try(session: Session, resources: Resources, worker: str, customer_id: str, *, skip_locked: bool) -> Job | None:
    # A row that was locked and turns out to be no longer queued stays locked to the end of its savepoint: waiting for
    # the next one meanwhile would deadlock with whoever waits for this one.
    with session.begin_nested() as savepoint:
        job_id = jobs.find_oldest_queued(session, customer_id)
        # The customer before the job, as everywhere: it cannot be deleted meanwhile.
        if job_id is not None and customers.keep(session, {customer_id}):
            job = jobs.claim(session, job_id, worker, resources.settings.lease_s, skip_locked=skip_locked)
            if job is not None:
                return job
        savepoint.rollback()
    return None
