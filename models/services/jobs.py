"""Jobs for their customers: submitted, followed, cancelled, paused, resumed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from sqlalchemy.orm import Session

from models.backbones.registry import AUTO
from models.errors import Unavailable
from models.records import audit, customers, files, job_events, job_lists, jobs, versions
from models.records.audit import Action
from models.records.job_events import JobEvent
from models.records.job_lists import JobFilter
from models.records.jobs import Job
from models.records.pages import Page
from models.records.transitions import ENDED, JobStatus
from models.records.versions import ModelVersion
from models.services import idempotency as answers
from models.services import quotas, submission
from models.services.access.errors import CustomerSuspended
from models.services.errors import JobEnded, JobNotPaused
from models.services.idempotency import IdempotencyToken
from models.services.job_request import JobRequest
from models.services.quotas import QuotaName
from models.services.resources import Resources

__all__ = [
    "NEW_JOB",
    "JobFilter",
    "JobRequest",
    "cancel",
    "checkpoints_page",
    "events_page",
    "events_since",
    "get",
    "list_page",
    "pause",
    "resume",
    "submit",
    "wake",
]

_ALL = JobFilter()
# What a job needs room for; its versions' bytes are known when they are there.
NEW_JOB: dict[QuotaName, int] = {
    "unfinished_jobs": 1,
    "jobs_per_day": 1,
    "training_seconds_per_month": 1,
    "stored_bytes": 1,
}


def submit(
    resources: Resources, customer_id: str, request: JobRequest, *, idempotency: IdempotencyToken | None = None
) -> Job:
    """Accept a job. Once this returns it will end, whichever process dies: the message only wakes a worker.

    Job and idempotency row are one transaction; the message leaves after it and may fail to. A repeated token returns
    the job of the first request. Raises NotFound for files, and the errors of `submission`.
    """
    task = _task(resources, customer_id, request)
    checked = submission.check(resources.settings, request, task=task)
    with resources.database.transaction() as session:
        customer = customers.lock(session, customer_id)
        if idempotency is not None:
            replay = answers.find_in(session, customer_id, idempotency)
            if replay is not None:
                return jobs.require(session, customer_id, str(replay.body["id"]))
        if customer.suspended_at is not None:  # since its key was looked at
            raise CustomerSuspended()
        quotas.check(session, resources.settings, customer, NEW_JOB)
        job = submission.write(session, resources, customer, checked)
        job_events.add(session, job.id, f"Created fine-tuning job: {job.id}")
        asked = {
            "model": job.model_id,
            "training_file": job.training_file_id,
            "validation_file": job.validation_file_id,
            "unlabeled_file": job.unlabeled_file_id,
        }
        audit.record(session, resources.actor, "job.created", customer_id, job.id, after=asked)
        if idempotency is not None:
            render = idempotency.render or _render
            answers.store_in(session, customer_id, idempotency, status=200, body=render(job))
    wake(resources, [job.id])
    return job


def _task(resources: Resources, customer_id: str, request: JobRequest) -> str | None:
    """Return the training file's task; None where the request names the base."""
    if request.model and request.model != AUTO:
        return None
    with resources.database.reading() as session:
        training = files.require(session, customer_id, request.training_file, param="training_file")
    submission.require_data(training, param="training_file")
    submission.check_role(training)
    return str(training.profile["task"])


def get(resources: Resources, customer_id: str, job_id: str) -> Job:
    """Return one of the customer's jobs; raises NotFound."""
    with resources.database.reading() as session:
        return jobs.require(session, customer_id, job_id)


def list_page(
    resources: Resources,
    customer_id: str,
    *,
    after: str | None = None,
    limit: int = 20,
    only: JobFilter = _ALL,
) -> Page[Job]:
    """Return the customer's jobs that pass the filter, newest first."""
    with resources.database.reading() as session:
        return job_lists.fetch_list(session, customer_id, after=after, limit=limit, only=only)


def events_page(
    resources: Resources, customer_id: str, job_id: str, *, after: str | None = None, limit: int = 20
) -> Page[JobEvent]:
    """Return a job's events, newest first; raises NotFound."""
    with resources.database.reading() as session:
        jobs.require(session, customer_id, job_id)
        return job_events.fetch(session, job_id, after=after, limit=limit)


def events_after(
    resources: Resources, customer_id: str, job_id: str, *, after: str | None = None, limit: int = 20
) -> Page[JobEvent]:
    """Return a job's events after one of them, oldest first; raises NotFound."""
    with resources.database.reading() as session:
        jobs.require(session, customer_id, job_id)
        seq = 0 if after is None else job_events.require(session, job_id, after).seq
        found = job_events.fetch_since(session, job_id, seq, limit + 1)
    return Page(list(found[:limit]), has_more=len(found) > limit)


def events_since(
    resources: Resources, customer_id: str, job_id: str, seq: int, *, limit: int = 100
) -> Sequence[JobEvent]:
    """Return a job's events after the event `seq` (0: from the start), oldest first; raises NotFound."""
    with resources.database.reading() as session:
        jobs.require(session, customer_id, job_id)
        return job_events.fetch_since(session, job_id, seq, limit)


def checkpoints_page(
    resources: Resources, customer_id: str, job_id: str, *, after: str | None = None, limit: int = 20
) -> Page[ModelVersion]:
    """Return the versions that a job published, newest first; raises NotFound."""
    with resources.database.reading() as session:
        jobs.require(session, customer_id, job_id)
        return versions.fetch_checkpoints(session, job_id, after=after, limit=limit)


def cancel(resources: Resources, customer_id: str, job_id: str) -> Job:
    """Cancel a job: at once if no worker has it, else with its worker's next heartbeat. Cancelling again is no error.

    Raises NotFound, JobEnded.
    """
    with resources.database.transaction() as session:
        customers.keep(session, {customer_id})
        job = jobs.lock(session, customer_id, job_id)
        if job.status == "running":
            if job.stop_requested != "cancel":
                _note(session, resources, job, "job.cancelled")
                job.stop_requested = "cancel"
                job_events.add(session, job.id, "Cancellation requested; the worker stops within seconds.")
        elif job.status in ENDED - {"cancelled"}:
            raise JobEnded(id=job_id, status=job.status, verb="cancelled")
        elif job.status != "cancelled":
            _note(session, resources, job, "job.cancelled")
            _move(session, resources, job, "cancelled")
            job_events.add(session, job.id, "Job cancelled before it ran.")
    return job


def pause(resources: Resources, customer_id: str, job_id: str) -> Job:
    """Pause a job. A running one stops with its worker's next heartbeat. Raises NotFound, JobEnded."""
    with resources.database.transaction() as session:
        customers.keep(session, {customer_id})
        job = jobs.lock(session, customer_id, job_id)
        if job.status in ENDED:
            raise JobEnded(id=job_id, status=job.status, verb="paused")
        if job.status == "running":
            if job.stop_requested is None:
                _note(session, resources, job, "job.paused")
                job.stop_requested = "pause"
                job_events.add(session, job.id, "Pause requested; the worker stops within seconds.")
        elif job.status != "paused":
            _note(session, resources, job, "job.paused")
            _move(session, resources, job, "paused")
            job_events.add(session, job.id, "Job paused.")
    return job


def resume(resources: Resources, customer_id: str, job_id: str) -> Job:
    """Queue a paused job again, or take back a pause that its worker has not read.

    Raises NotFound, JobEnded, JobNotPaused, CustomerSuspended.
    """
    with resources.database.transaction() as session:
        customers.keep(session, {customer_id})
        job = jobs.lock(session, customer_id, job_id)
        if job.status in ENDED:
            raise JobEnded(id=job_id, status=job.status, verb="resumed")
        if customers.require(session, customer_id).suspended_at is not None:  # since its key was looked at
            raise CustomerSuspended()
        if job.status == "running" and job.stop_requested == "pause":
            # Its worker may be stopping already; `claims.release` sees that the pause was taken back.
            _note(session, resources, job, "job.resumed")
            job.stop_requested = None
            job_events.add(session, job.id, "Pause taken back.")
            return job
        if job.status != "paused":
            raise JobNotPaused(id=job_id, status=job.status)
        _note(session, resources, job, "job.resumed")
        _move(session, resources, job, "queued")
        job.sent_at = None
        job.queued_at = resources.database.now(session)
        job_events.add(session, job.id, "Job resumed; it waits for a worker.")
    wake(resources, [job.id])
    return job


def wake(resources: Resources, job_ids: Sequence[str]) -> int:
    """Send the messages of queued jobs, after the transaction that queued them; return how many the broker took.

    Nothing here can fail the caller: a job that is not marked as sent is its own outbox.
    """
    # A broker that did not take one message is not asked for the others.
    sent = list(takewhile(resources.queue.send, job_ids))
    if sent:
        try:
            with resources.database.transaction() as session:
                jobs.mark_sent(session, sent)
        except Unavailable:
            pass  # sent once more by the sweeper; the worker drops duplicates
    return len(sent)


def _note(session: Session, resources: Resources, job: Job, action: Action) -> None:
    """Write to the audit log what becomes of a job, before it does."""
    before = {"status": job.status, "stop_requested": job.stop_requested}
    audit.record(session, resources.actor, action, job.customer_id, job.id, before=before)


def _move(session: Session, resources: Resources, job: Job, target: JobStatus) -> None:
    now = resources.database.now(session)
    values = {"finished_at": now} if target in ENDED else {}
    moved = jobs.move(session, job.id, target, values)
    if moved is None:  # the row is locked and its state was looked at
        raise RuntimeError(f"job {job.id} cannot go from {job.status} to {target}")


def _render(job: Job) -> dict[str, Any]:
    return {"object": "fine_tuning.job", "id": job.id}
