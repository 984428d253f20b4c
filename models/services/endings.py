"""How attempts end that did not succeed: one place for workers, who say so, and the sweeper, who finds them dead."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from models.records import jobs
from models.records.clock import read_clock
from models.records.jobs import Job
from models.records.transitions import ENDED, check

_WISHES = {"cancel": "cancelled", "pause": "paused"}
_MESSAGES = {
    "cancelled": "Job cancelled.",
    "paused": "Job paused.",
    "queued": "The worker gave the job back; it waits for another one.",
}


def end_attempt(
    session: Session,
    job: Job,
    target: str | None,
    *,
    error: dict[str, Any] | None = None,
    max_attempts: int = 0,
) -> None:
    """Take a running job, whose row is locked, out of its attempt.

    `target` None: the attempt failed through the server's fault, and what follows depends on the customer's wish and
    on the attempts that are left.
    """
    if target is None:
        failures = job.attempt - job.excused
        target = _WISHES.get(job.stop_requested or "", "queued" if failures < max_attempts else "failed")
        error = {"blame": "server", **(error or {})}
        if target == "queued":
            text = f"Attempt {job.attempt} failed: {error['message']} Trying again ({failures} of {max_attempts} used)."
            jobs.add_event(session, job.id, text, level="warn", data={"code": error.get("code")})
        elif target == "failed":
            text = f"Gave up after {failures} attempts. The last one: {error['message']} You are not billed."
            error = {**error, "message": text}
    check(job.status, target)
    job.status = target
    job.lease_until = job.step = job.seconds_remaining = job.stop_requested = None
    if target == "queued":
        job.sent_at = None
        job.percent = 0.0
    if target in ENDED:
        job.finished_at = read_clock(session)
    if target == "failed":
        error = {
            "code": "server_error",
            "message": "The job failed.",
            "param": None,
            "blame": "server",
            **(error or {}),
        }
        job.error = {name: jobs.storable(value) if isinstance(value, str) else value for name, value in error.items()}
        jobs.add_event(
            session, job.id, error["message"], level="error", data={"code": error["code"], "blame": error["blame"]}
        )
    elif target != "queued" or error is None:
        jobs.add_event(session, job.id, _MESSAGES[target])
    session.flush()
