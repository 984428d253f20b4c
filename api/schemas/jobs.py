"""Fine-tuning jobs on the wire: OpenAI's fields, and what Graft adds to them."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any, Literal

from pydantic import Field

from api.schemas.base import Object, UnixSeconds
from models.learning.contract.request import Hyperparameters
from models.records.jobs import Job, JobEvent
from models.records.versions import ModelVersion


class JobError(Object):
    """Why a job failed, and whether the data (`user`) or the service (`server`) is to blame."""

    code: str
    message: str
    param: str | None = None
    blame: Literal["user", "server"] | None = None
    details: list[dict[str, Any]] = Field(
        default_factory=list, description="For bad data: row, column, what is wrong, how to mend it."
    )


class JobObject(Object):
    """A fine-tuning job."""

    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    id: str
    status: Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled", "paused"]
    step: str | None = Field(description="What a running job does: reading, encoding, fitting, refining, ….")
    percent: float
    model: str = Field(description="The base model.")
    fine_tuned_model: str | None = Field(description="Set as soon as a first version can be called.")
    suffix: str
    task: str
    strategy: str
    method: dict[str, Any]
    hyperparameters: dict[str, Any] = Field(description='As asked for; what was "auto" is replaced by what it became.')
    seed: int
    training_file: str
    validation_file: str | None
    metadata: dict[str, str]
    organization_id: str
    created_at: UnixSeconds
    started_at: int | None
    finished_at: int | None
    estimated_finish: int | None
    seconds_remaining: float | None
    attempt: int
    trained_tokens: int | None
    trained_rows: int | None
    error: JobError | None
    report: dict[str, Any] | None
    versions: dict[str, str] | None = Field(description="Of the libraries that trained it.")
    result_files: list[str]
    integrations: list[Any]


class EventObject(Object):
    """Something that happened to a job."""

    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    id: str
    created_at: UnixSeconds
    level: str
    type: str
    message: str
    data: dict[str, Any]


class CheckpointObject(Object):
    """A version that a job has published."""

    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    id: str
    created_at: UnixSeconds
    fine_tuned_model_checkpoint: str = Field(description="The version's pinned name; predict accepts it.")
    fine_tuning_job_id: str
    step_number: int
    candidate: str
    version: int
    metrics: dict[str, Any]


def job_object(job: Job) -> JobObject:
    """A row as the wire has it."""
    hyperparameters = asdict(Hyperparameters()) | job.hyperparameters | (job.resolved or {})
    remaining = job.seconds_remaining if job.status == "running" else None
    report = job.report
    return JobObject(
        id=job.id,
        status=job.status,
        step=job.step if job.status == "running" else None,
        percent=round(job.percent, 2),
        model=job.base_model,
        fine_tuned_model=job.fine_tuned_model,
        suffix=job.suffix,
        task=job.task,
        strategy=job.strategy,
        method={"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
        hyperparameters=hyperparameters,
        seed=job.seed,
        training_file=job.training_file_id,
        validation_file=job.validation_file_id,
        metadata=job.meta,
        organization_id=job.customer_id,
        created_at=int(job.created_at),
        started_at=None if job.started_at is None else int(job.started_at),
        finished_at=None if job.finished_at is None else int(job.finished_at),
        estimated_finish=None if remaining is None else int(time.time() + remaining),
        seconds_remaining=remaining,
        attempt=job.attempt,
        trained_tokens=job.trained_tokens,
        trained_rows=job.trained_rows,
        error=None if job.error is None else _job_error(job.error),
        report=report,
        versions=(report or {}).get("versions"),
        result_files=[],
        integrations=[],
    )


def event_object(event: JobEvent) -> EventObject:
    """A row as the wire has it."""
    return EventObject(
        id=event.id,
        created_at=int(event.created_at),
        level=event.level,
        type=event.type,
        message=event.message,
        data=event.data,
    )


def checkpoint_object(version: ModelVersion, full_name: str) -> CheckpointObject:
    """A version as the checkpoint of its job."""
    return CheckpointObject(
        id=version.id,
        created_at=int(version.created_at),
        fine_tuned_model_checkpoint=f"{full_name}@{version.number}",
        fine_tuning_job_id=version.job_id,
        step_number=version.number,
        candidate=version.candidate,
        version=version.number,
        metrics=version.metrics,
    )


def _job_error(error: dict[str, Any]) -> JobError:
    return JobError(
        code=str(error.get("code", "server_error")),
        message=str(error.get("message", "")),
        param=error.get("param"),
        blame=error.get("blame"),
        details=error.get("details") or [],
    )
