"""The writes of a running attempt. Each names the attempt that makes it; one that lost its lease writes nothing.

The lease is judged by the database's clock. Slow work (uploads) runs with no transaction open, and its result counts
only by the fenced transaction that follows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from models.errors import JobError, Unavailable
from models.learning.contract.events import Finished, VersionReady
from models.records import changes, customers, files, job_events, jobs, usage, versions
from models.records.clock import clock, read_clock
from models.records.customers import Customer
from models.records.files import File
from models.records.jobs import Job
from models.records.transitions import Released
from models.records.versions import Model, ModelVersion
from models.services import artifacts, attempt_outcome, live_version, model_base, priors, result_files, turns
from models.services.errors import CandidateMissing, LeaseLost
from models.services.jobs import wake
from models.services.resources import Resources
from models.services.result_files import StoredResults
from models.services.usage import training_record
from models.storage.errors import ObjectMissing, StorageUnavailable

NewEvent = tuple[str, str, str, dict[str, Any]]  # level, type, message, data


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's right to one attempt at one job, while it renews its lease."""

    job: Job
    attempt: int
    worker: str
    training_file: File
    validation_file: File | None
    unlabeled_file: File | None
    customer: Customer
    model: Model
    live: ModelVersion | None  # of another job, that this one's best version is to be compared with


def claim_next(resources: Resources, worker: str) -> Claim | None:
    """Take the queued job whose customer's turn it is. None: none is queued."""
    while True:
        with resources.database.transaction() as session:
            job = turns.take_next(session, resources, worker)
            if job is None:
                return None
            if not turns.is_refused(session, resources, job):
                return begin(session, job, worker)


def begin(session: Session, job: Job, worker: str) -> Claim:
    """Return the claim on a job that this transaction has taken, and say so in the job's events."""
    validation, unlabeled = (
        None if file_id is None else files.require(session, job.customer_id, file_id)
        for file_id in (job.validation_file_id, job.unlabeled_file_id)
    )
    model = session.get_one(Model, job.model_id)
    model_base.follow(session, job, model)
    again = "" if job.attempt == 1 else f" (attempt {job.attempt})"
    job_events.add(session, job.id, f"Training started{again}.", data={"attempt": job.attempt})
    return Claim(
        job=job,
        attempt=job.attempt,
        worker=worker,
        training_file=files.require(session, job.customer_id, job.training_file_id),
        validation_file=validation,
        unlabeled_file=unlabeled,
        customer=customers.require(session, job.customer_id),
        model=model,
        live=live_version.find_live_of_another_job(session, job, model),
    )


def heartbeat(
    resources: Resources,
    claim: Claim,
    *,
    step: str | None = None,
    percent: float | None = None,
    seconds_remaining: float | None = None,
    events: Sequence[NewEvent] = (),
) -> str | None:
    """Renew the lease and report; return what the customer wants: "cancel", "pause" or None. Raises LeaseLost."""
    values: dict[str, Any] = {
        name: value for name, value in (("step", step), ("percent", percent)) if value is not None
    }
    if values:
        # An estimate from before this step does not hold any more, whether or not there is a new one.
        values["seconds_remaining"] = seconds_remaining
    with resources.database.transaction() as session:
        job = hold(session, resources, claim, values)
        for level, type_, message, data in events:
            job_events.add(session, job.id, message, level=level, type=type_, data=data)
        return job.stop_requested


def publish(resources: Resources, claim: Claim, candidate: VersionReady, *, promote: bool) -> ModelVersion:
    """Upload an artifact and make it a version, once per job and candidate; an earlier attempt's is returned.

    With `promote` it goes live at once if the model has no live version, or one of this very job that it improves on;
    a version of another job serves until `finish`. Raises LeaseLost, ArtifactIncomplete, StorageUnavailable.
    """
    with resources.database.reading() as session:
        present = versions.find_candidate(session, claim.job.id, candidate.name)
    if present is not None and artifacts.is_complete(resources.store, present):
        with resources.database.transaction() as session:
            hold(session, resources, claim)
        return present
    try:
        artifact = artifacts.upload(resources.store, claim.model, claim.job.id, claim.attempt, candidate)
    except (ObjectMissing, StorageUnavailable):
        # Perhaps the customer was deleted, with all that had arrived so far.
        with resources.database.transaction() as session:
            hold(session, resources, claim)
        raise
    try:
        with resources.database.transaction() as session:
            job = hold(session, resources, claim)
            version = versions.find_candidate(session, job.id, candidate.name)
            if version is None:
                version = _add_version(session, claim, candidate, artifact)
                live_version.add_published(session, job, claim.model, version, promote=promote and candidate.improves)
            elif version.artifact_prefix != artifact.prefix:
                # An earlier attempt published it and its files are damaged: the row stays, the files are ours.
                version.artifact_prefix, version.manifest_sha256 = artifact.prefix, artifact.manifest_sha256
                version.bytes = artifact.bytes
                changes.record(session, "model", claim.job.customer_id, claim.model.name)
    except Unavailable:
        raise  # the commit may have arrived: the sweeper removes the files if it did not
    except BaseException:
        _discard(resources, artifact)
        raise
    return version


def finish(resources: Resources, claim: Claim, finished: Finished) -> Job:
    """Complete a job: `live` moves to its best version if that may go live by itself, and the run is billed, once.

    Its loss curve becomes a file of the customer's. Safe to repeat when the answer was lost. Raises LeaseLost,
    CandidateMissing, StorageUnavailable.
    """
    with resources.database.reading() as session:
        done = _find_finished(session, claim)
    if done is not None:
        return done
    results = result_files.store(resources, claim.job.customer_id, finished.curve)
    try:
        return _finish(resources, claim, finished, results)
    except Unavailable:
        raise  # the commit may have arrived: the sweeper removes the file's object if it did not
    except BaseException:
        result_files.discard(resources, results)
        raise


def _finish(resources: Resources, claim: Claim, finished: Finished, results: StoredResults | None) -> Job:
    with resources.database.transaction() as session:
        job = hold(session, resources, claim)
        best = versions.find_candidate(session, job.id, finished.best)
        if best is None:
            raise CandidateMissing(candidate=finished.best, job_id=job.id)
        decision = live_version.decide(session, job, claim.model, best, finished.comparison, compared_with=claim.live)
        attempt_outcome.end_attempt(session, job, "succeeded")
        now = resources.database.now(session)
        if results is not None:
            result_files.add(session, job, results, now=now)
        job.percent, job.seconds_remaining = 100.0, 0.0
        # Without its version under the model's name, the job's name is the version's own.
        pin = "" if decision.promoted else f"@{best.number}"
        job.fine_tuned_model = claim.model.full_name + pin
        job.warnings = _warnings(job, finished.report)
        job.report = {
            **finished.report,
            "warnings": job.warnings,
            "promotion": live_version.describe(job, decision, finished.comparison, compared_with=claim.live),
        }
        job.resolved = finished.report.get("hyperparameters")
        job.trained_rows, job.trained_tokens = finished.trained_rows, finished.trained_tokens
        usage.add_once(session, [training_record(job, claim.model.full_name, finished.seconds, now)])
        priors.keep(session, resources, job, finished)
        job_events.add(session, job.id, "The job has successfully completed.", data={"best": finished.best})
        return job


def fail(resources: Resources, claim: Claim, error: JobError) -> Job:
    """Fail a job, for good. It is not billed. Raises LeaseLost."""
    with resources.database.transaction() as session:
        job = hold(session, resources, claim)
        attempt_outcome.fail(session, job, error)
        return job


def release(resources: Resources, claim: Claim, *, to: Released) -> Job:
    """Give a job back, as its customer asked, or because the worker shuts down (`queued`): no failed attempt.

    The customer's latest request decides: a pause that was taken back puts the job into the queue again, and a
    cancellation comes before everything else. Raises LeaseLost.
    """
    with resources.database.transaction() as session:
        job = hold(session, resources, claim)
        target = to
        if job.stop_requested == "cancel":
            target = "cancelled"
        elif job.stop_requested == "pause" and to == "queued":
            target = "paused"
        elif job.stop_requested is None and to == "paused":
            target = "queued"
        job.excused += 1
        attempt_outcome.release(session, job, target)
    if job.status == "queued":
        wake(resources, [job.id])
    return job


def retry(resources: Resources, claim: Claim, error: JobError) -> Job:
    """End this attempt through the server's fault: queued again, or failed when the attempts are used up.

    A stop that the customer asked for comes first. Raises LeaseLost.
    """
    with resources.database.transaction() as session:
        job = hold(session, resources, claim)
        attempt_outcome.fail_attempt(session, job, error, resources.settings.max_attempts)
    if job.status == "queued":
        wake(resources, [job.id])
    return job


def hold(session: Session, resources: Resources, claim: Claim, values: dict[str, Any] | None = None) -> Job:
    """Return the job with its lease renewed and its row locked. Raises LeaseLost if this attempt may not write."""
    if not customers.keep(session, {claim.job.customer_id}):
        raise LeaseLost(attempt=claim.attempt, job_id=claim.job.id)
    renewed = {"lease_until": clock() + resources.settings.lease_s, **(values or {})}
    job = jobs.write_as_owner(session, claim.job.id, claim.attempt, claim.worker, renewed)
    if job is None:
        raise LeaseLost(attempt=claim.attempt, job_id=claim.job.id)
    return job


def _discard(resources: Resources, artifact: artifacts.StoredArtifact) -> None:
    # Not if this same attempt published these files before: then they serve.
    with resources.database.reading() as session:
        published = versions.known_prefixes(session, [artifact.prefix])
    if not published:
        artifacts.remove(resources.store, artifact)


def _find_finished(session: Session, claim: Claim) -> Job | None:
    job = session.get(Job, claim.job.id, populate_existing=True)
    if job is None or (job.status, job.attempt, job.worker) != ("succeeded", claim.attempt, claim.worker):
        return None
    return job


def _warnings(job: Job, report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the warnings that the job began with, and those of its run."""
    found = job.warnings or []
    return [*found, *(warning for warning in report.get("warnings", []) if warning not in found)]


def _add_version(
    session: Session, claim: Claim, candidate: VersionReady, artifact: artifacts.StoredArtifact
) -> ModelVersion:
    model = versions.lock_model(session, claim.model.id)
    if model is None:
        raise LeaseLost(attempt=claim.attempt, job_id=claim.job.id)
    version = ModelVersion(
        id=artifact.version_id,
        model_id=claim.model.id,
        job_id=claim.job.id,
        number=versions.next_number(session, model),
        candidate=candidate.name,
        artifact_prefix=artifact.prefix,
        manifest_sha256=artifact.manifest_sha256,
        bytes=artifact.bytes,
        metrics=candidate.metrics,
        report={**candidate.report, "warnings": _warnings(claim.job, candidate.report)},
        created_at=read_clock(session),
    )
    session.add(version)
    session.flush()
    return version
