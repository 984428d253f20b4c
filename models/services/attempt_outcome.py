"""The end of an attempt: one place for workers, which report it, and for the sweeper, which finds expired leases."""

from __future__ import annotations

import dataclasses

from sqlalchemy.orm import Session

from models.errors import JobError
from models.records import job_events, training_shares
from models.records.clock import read_clock
from models.records.jobs import Job
from models.records.transitions import ENDED, JobStatus, Released

_STOPPED: dict[str | None, Released] = {"cancel": "cancelled", "pause": "paused"}
_MESSAGES = {
    "cancelled": "Job cancelled.",
    "paused": "Job paused.",
    "queued": "The worker gave the job back; it waits for another one.",
}


def end_attempt(session: Session, job: Job, target: JobStatus, *, charged: bool = True) -> None:
    """End the attempt of a running job, whose row is locked, and set its next status. Raises IllegalTransition.

    What it took counts for the customer's turn, and against its month if it is `charged`: not if it was our fault.
    """
    now = read_clock(session)
    job.status = target
    # A worker that was lost has worked until its lease ran out at most.
    until = min(now, job.lease_until or now)
    job.lease_until = job.step = job.seconds_remaining = job.stop_requested = None
    if target == "queued":
        job.sent_at = None
        job.percent = 0.0
        job.queued_at = now
    if target in ENDED:
        job.finished_at = now
    session.flush()
    if job.claimed_at is not None:  # None: a worker of the last release took it
        seconds = max(0.0, until - job.claimed_at)
        job.claimed_at = None
        training_shares.add(session, job.customer_id, seconds, now=now, charged=charged)


def release(session: Session, job: Job, target: Released) -> None:
    """End an attempt without a result and without a failure."""
    end_attempt(session, job, target, charged=target != "queued")
    job_events.add(session, job.id, _MESSAGES[target])


def fail(session: Session, job: Job, error: JobError) -> None:
    """End an attempt and fail its job, for good."""
    error = dataclasses.replace(error, message=job_events.storable(error.message))
    end_attempt(session, job, "failed", charged=error.blame == "user")
    job.error = error.as_dict()
    data = {"code": error.code, "blame": error.blame}
    job_events.add(session, job.id, error.message, level="error", data=data)


def fail_attempt(session: Session, job: Job, error: JobError, max_attempts: int) -> None:
    """End an attempt through the server's fault: queued again, or failed when the attempts are used up.

    A stop that the customer asked for comes first.
    """
    failures = job.attempt - job.excused
    stopped = _STOPPED.get(job.stop_requested)
    if stopped is not None:
        release(session, job, stopped)
    elif failures < max_attempts:
        end_attempt(session, job, "queued", charged=False)
        text = f"Attempt {job.attempt} failed: {error.message} Trying again ({failures} of {max_attempts} used)."
        job_events.add(session, job.id, text, level="warn", data={"code": error.code})
    else:
        text = f"Gave up after {failures} attempts. The last one: {error.message} You are not billed."
        fail(session, job, dataclasses.replace(error, message=text))


def interrupt(session: Session, job: Job, error: JobError, max_interruptions: int) -> None:
    """End an attempt whose worker was lost: no failure of the job's, but nobody is interrupted for ever.

    A job that kills what trains it kills the trainer, which its worker sees and reports as a failed attempt.
    """
    job.excused += 1
    job.interruptions += 1
    stopped = _STOPPED.get(job.stop_requested)
    if stopped is not None:
        release(session, job, stopped)
    elif job.interruptions < max_interruptions:
        end_attempt(session, job, "queued", charged=False)
        text = f"{error.message} Trying again (interruption {job.interruptions} of {max_interruptions})."
        job_events.add(session, job.id, text, level="warn", data={"code": error.code})
    else:
        text = (
            f"Gave up after {job.interruptions} interruptions: each time the worker that ran it was lost. "
            "You are not billed. Ask the operator what ends the workers, then start it again."
        )
        fail(session, job, JobError("interrupted_too_often", text))
