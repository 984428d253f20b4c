"""Fine-tuning jobs on the wire: OpenAI's fields, and what Graft adds to them."""

from __future__ import annotations

import time
from dataclasses import asdict
from operator import itemgetter
from typing import Any, Literal

from pydantic import Field

from api.schemas.base import Object, UnixSeconds
from api.schemas.report import BaseChoice, Report
from models import errors
from models.learning.contract.request import Hyperparameters
from models.records.job_events import JobEvent
from models.records.jobs import Job
from models.records.transitions import JobStatus
from models.records.versions import ModelVersion
from models.services.promotion import DEFAULT


class JobError(Object):
    """The reason why a job failed, and whether the data (`user`) or the service (`server`) is to blame."""

    code: str = Field(description="The error for programs.")
    message: str = Field(description="What went wrong and what to do about it.")
    param: str | None = Field(None, description="The field that is wrong.")
    blame: errors.Blame | None = Field(None, description="The data, or the service; null: none.")
    details: list[dict[str, Any]] = Field(
        default_factory=list, description="For bad data: row, column, what is wrong, how to correct it."
    )


class JobObject(Object):
    """A fine-tuning job."""

    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    id: str = Field(description="`ftjob-…`.")
    status: JobStatus = Field(description="Where it is.")
    step: str | None = Field(description="What a running job does: reading, encoding, fitting, refining, ….")
    percent: float = Field(description="How far it is, from 0 to 100 over the whole job.")
    model: str = Field(description="The base model; `auto` until one is chosen, where the job left that open.")
    base_choice: BaseChoice | None = Field(
        description="How the base model was chosen, where the job left that open (`auto`); null: it was named."
    )
    fine_tuned_model: str | None = Field(
        description="Set as soon as a first version can be called; with `@version` where that did not go live."
    )
    suffix: str = Field(description="The model's short name.")
    task: str = Field(description="What it learns.")
    strategy: str = Field(description="How it was asked to train; `report.strategy` is the one that was used.")
    promote: str = Field(description="What goes live by itself: auto, always or never.")
    method: dict[str, Any] = Field(description="OpenAI's form of the hyperparameters.")
    hyperparameters: dict[str, Any] = Field(
        description="As asked for; once the job has ended as they were used, null where one has no effect."
    )
    seed: int = Field(description="Same seed and data, same model.")
    training_file: str = Field(description="The id of the file that it learns from.")
    validation_file: str | None = Field(description="The id of the file that it is scored on; null: held-out rows.")
    unlabeled_file: str | None = Field(description="The id of the file of rows without labels; null: none.")
    metadata: dict[str, str] = Field(description="Your own pairs.")
    organization_id: str = Field(description="The customer's id.")
    created_at: UnixSeconds
    started_at: int | None = Field(description="Unix time in seconds; null: it waits.")
    finished_at: int | None = Field(description="Unix time in seconds; null: it has not ended.")
    estimated_finish: int | None = Field(description="Unix time in seconds, while it runs and as far as is known.")
    seconds_remaining: float | None = Field(description="Until its end, while it runs and as far as is known.")
    attempt: int = Field(description="How often a worker has begun it.")
    trained_tokens: int | None = Field(description="Tokens of all passes over the rows; set at the end.")
    trained_rows: int | None = Field(description="Rows of the training file; set at the end.")
    warnings: list[dict[str, Any]] = Field(
        description="What is worth a look: of its files (with `file`), its hyperparameters and its run; code, message."
    )
    error: JobError | None = Field(description="Why it failed.")
    report: Report | None = Field(description="How good the model is and how that was found out; set at the end.")
    versions: dict[str, str] | None = Field(description="Of the libraries that trained it.")
    result_files: list[str] = Field(
        description="The id of the loss curve as CSV, once the job has succeeded; empty where nothing was trained in "
        "steps, or the file was deleted."
    )
    integrations: list[Any] = Field(description="Always empty.")


class EventObject(Object):
    """Something that happened to a job."""

    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    id: str = Field(description="`ftevent-…`.")
    created_at: UnixSeconds
    level: str = Field(description="info, warn or error.")
    type: str = Field(description="`message`, or `metrics` for the figures of a step.")
    message: str = Field(description="What happened.")
    data: dict[str, Any] = Field(description="The same in numbers.")


class CheckpointObject(Object):
    """A version that a job has published."""

    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    id: str = Field(description="`ftckpt-…`.")
    created_at: UnixSeconds
    fine_tuned_model_checkpoint: str = Field(description="The version's pinned name; predict accepts it.")
    fine_tuning_job_id: str = Field(description="The job that published it.")
    step_number: int = Field(description="The version's number.")
    candidate: str = Field(description="The strategy that made it: head, lora, partial, ….")
    version: int = Field(description="The version's number.")
    metrics: dict[str, Any] = Field(
        description="The headline figures: score, score_low, score_high, baseline, …; of what was trained step by step "
        "also `step`, `train_loss` and `valid_loss`, where the held-out loss was the lowest (else of the last step)."
    )


def job_object(job: Job) -> JobObject:
    """Return a row in its wire form."""
    hyperparameters = asdict(Hyperparameters()) | job.hyperparameters | (job.resolved or {})
    remaining = job.seconds_remaining if job.status == "running" else None
    report = job.report
    return JobObject(
        id=job.id,
        status=job.status,
        step=job.step if job.status == "running" else None,
        percent=round(job.percent, 2),
        model=job.base_model,
        base_choice=None if job.base_choice is None else BaseChoice.model_validate(job.base_choice),
        fine_tuned_model=job.fine_tuned_model,
        suffix=job.suffix,
        task=job.task,
        strategy=job.strategy,
        promote=job.promote or DEFAULT,
        method={"type": _method(hyperparameters), _method(hyperparameters): {"hyperparameters": hyperparameters}},
        hyperparameters=hyperparameters,
        seed=job.seed,
        training_file=job.training_file_id,
        validation_file=job.validation_file_id,
        unlabeled_file=job.unlabeled_file_id,
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
        warnings=job.warnings or [],
        error=None if job.error is None else _job_error(job.error),
        report=report,
        versions=(report or {}).get("versions"),
        result_files=[] if job.result_file_id is None else [job.result_file_id],
        integrations=[],
    )


def _method(hyperparameters: dict[str, Any]) -> str:
    return "dpo" if hyperparameters.get("method") == "dpo" else "supervised"


def event_object(event: JobEvent) -> EventObject:
    """Return a row in its wire form."""
    return EventObject(
        id=event.id,
        created_at=int(event.created_at),
        level=event.level,
        type=event.type,
        message=event.message,
        data=event.data,
    )


def checkpoint_object(version: ModelVersion, full_name: str) -> CheckpointObject:
    """Return a version as the checkpoint of its job."""
    return CheckpointObject(
        id=version.id,
        created_at=int(version.created_at),
        fine_tuned_model_checkpoint=f"{full_name}@{version.number}",
        fine_tuning_job_id=version.job_id,
        step_number=version.number,
        candidate=version.candidate,
        version=version.number,
        metrics={**version.metrics, **_losses(version.report)},
    )


def _losses(report: dict[str, Any]) -> dict[str, Any]:
    """Return OpenAI's figures of the step whose weights a version has; {} without a loss curve, as of a prompt."""
    curve = report.get("loss_curve") or []
    if not curve:
        return {}
    held = [point for point in curve if "validation_loss" in point]
    point = min(held, key=itemgetter("validation_loss")) if held else curve[-1]
    found = {"step": point["step"], "train_loss": point["train_loss"], "valid_loss": point.get("validation_loss")}
    return {name: value for name, value in found.items() if value is not None}


def _job_error(body: dict[str, Any]) -> JobError:
    error = errors.JobError.from_dict(body)
    return JobError(
        code=error.code, message=error.message, param=error.param, blame=error.blame, details=list(error.details)
    )
