"""Repair after a crash: lost messages are sent again, jobs with expired leases taken back, orphans removed.

Any number of sweepers may run at once.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from models.errors import JobError
from models.records import changes, customers, idempotency, job_figures, jobs, outcomes
from models.services import attempt_outcome, orphans
from models.services.idempotency import KEEP_S
from models.services.jobs import wake
from models.services.priors import KEPT
from models.services.resources import Resources

_WORKER_LOST = JobError("worker_lost", "The worker that ran it was lost.")
_BATCH = 100
_KEYS = 1_000
# Predictors ask every second or so, and read back a minute at most.
_CHANGES_KEPT_S = 3_600.0


def resend_lost(resources: Resources) -> int:
    """Send the messages of queued jobs again that were never sent, or so long ago that they may be lost.

    When all workers are busy, old messages are not lost but waiting: as long as the broker holds one for every queued
    job, only those are sent that never were. Else a long queue would grow by itself with every sweep. Returns how many
    messages the broker took.
    """
    with resources.database.reading() as session:
        lost = jobs.fetch_lost(session, resources.settings.resend_after_s, _BATCH)
        queued = job_figures.count_queued(session)
    never_sent = [job_id for job_id, sent in lost if not sent]
    long_ago = [job_id for job_id, sent in lost if sent]
    if long_ago:
        depth = resources.queue.depth()
        if depth is None:  # the broker is away; nothing can be sent
            return 0
        long_ago = long_ago[: max(0, queued - len(never_sent) - depth)]
    return wake(resources, [*never_sent, *long_ago])


def reclaim_dead(resources: Resources, is_dead: Callable[[str], bool] = lambda _worker: False) -> list[str]:
    """Take back running jobs whose lease has run out, or whose worker `is_dead` knows to be gone.

    They are queued again, stopped as their customer asked, or failed. Returns their ids.
    """
    with resources.database.reading() as session:
        expired = jobs.fetch_dead(session, _BATCH)
        held = jobs.fetch_held(session)
    dead: list[tuple[str, str, int, str | None]] = [(job.customer_id, job.id, job.attempt, None) for job in expired]
    dead += [(customer_id, job_id, attempt, worker) for customer_id, job_id, attempt, worker in held if is_dead(worker)]
    reclaimed: list[str] = []
    for customer_id, job_id, attempt, worker in dead:
        with resources.database.transaction() as session:
            customers.keep(session, {customer_id})
            job = jobs.lock_dead(session, job_id, attempt, worker=worker)
            if job is None:
                continue  # it came back to life, or another sweeper was faster
            attempt_outcome.interrupt(session, job, _WORKER_LOST, resources.settings.max_interruptions)
        reclaimed.append(job_id)
        if job.status == "queued":
            wake(resources, [job_id])
    return reclaimed


def delete_orphans(resources: Resources) -> int:
    """Remove objects that no row names and no running attempt may still publish; return how many."""
    removed = resources.store.remove_unfinished(older_than_s=orphans.UPLOAD_S)
    keys = iter(resources.store.list("customers/"))
    while batch := list(islice(keys, _KEYS)):
        for key in orphans.find(resources, batch):
            resources.store.delete(key)
            removed += 1
    return removed


def forget_expired(resources: Resources) -> int:
    """Delete rows that are no longer of use; return how many.

    Idempotent answers after a day, changes that every predictor has read, outcomes behind many newer ones.
    """
    with resources.database.transaction() as session:
        answers = idempotency.forget(session, older_than_s=KEEP_S)
        seen = changes.forget(session, older_than_s=_CHANGES_KEPT_S)
        return answers + seen + outcomes.forget(session, keep=KEPT)
