"""/v1/fine_tuning/jobs: start, follow and stop training."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from api import context, job_creation
from api.admission import CustomerRoute, needs
from api.announced_uploads import refuse_excessive_job
from api.authentication import Caller
from api.context import Configuration, ControlPlane
from api.documentation import JOB_BODY, answers
from api.event_stream import stream_events
from api.idempotency import OnceOnly
from api.pagination import DEFAULT_LIMIT, After, Limit, listing
from api.schemas.base import Listing
from api.schemas.jobs import (
    CheckpointObject,
    EventObject,
    JobObject,
    checkpoint_object,
    event_object,
    job_object,
)
from models.records.transitions import JobStatus
from models.services import jobs
from models.services.jobs import JobFilter
from models.services.validation.cancellation import Cancellation

router = APIRouter(
    prefix="/v1/fine_tuning/jobs", tags=["jobs"], route_class=CustomerRoute, responses=answers(401, 403, 404, 429)
)

_METADATA = {
    "parameters": [
        {
            "name": "metadata[key]",
            "in": "query",
            "description": "Only jobs whose metadata have this value under this key; may be repeated for several keys.",
            "schema": {"type": "string"},
        }
    ]
}

JobId = Annotated[str, Path(description="The job's id: `ftjob-…`.")]


@router.post(
    "",
    response_model=JobObject,
    openapi_extra=JOB_BODY,
    responses=answers(400, 409, 413, 507),
    dependencies=[needs("train"), Depends(refuse_excessive_job)],
)
async def create(
    request: Request, caller: Caller, resources: ControlPlane, settings: Configuration, once: OnceOnly
) -> Response:
    """Start training: JSON that names an uploaded file or holds the rows, or one multipart form with the file in it."""
    under_way = context.of(request).uploads
    async with job_creation.read(request, settings, under_way.one_more(caller.customer_id)) as asked:

        def submit(gone: Cancellation | None = None) -> Response:
            return once.answer_job(
                asked.fingerprint, lambda token: job_creation.submit(resources, caller.customer_id, asked, token, gone)
            )

        # A job on a file that is stored already is short work: it does not wait for other people's uploads.
        return await (under_way.work(request, submit) if asked.brings_files else run_in_threadpool(submit))


@router.get("", openapi_extra=_METADATA, dependencies=[needs("train", "manage")])
def list_all(
    request: Request,
    caller: Caller,
    resources: ControlPlane,
    *,
    after: After = None,
    limit: Limit = DEFAULT_LIMIT,
    status: Annotated[
        list[JobStatus] | None, Query(description="Only jobs in this state; may be repeated for several.")
    ] = None,
    suffix: Annotated[str | None, Query(description="Only jobs of this model.", max_length=64)] = None,
) -> Listing[JobObject]:
    """List your jobs, newest first. `metadata[key]=value` filters, too."""
    wanted = {
        name[len("metadata[") : -1]: value
        for name, value in request.query_params.items()
        if name.startswith("metadata[") and name.endswith("]")
    }
    only = JobFilter(status or (), suffix, wanted)
    page = jobs.list_page(resources, caller.customer_id, after=after, limit=limit, only=only)
    return listing(page, job_object)


@router.get("/{job_id}", dependencies=[needs("train", "manage")])
def retrieve(job_id: JobId, caller: Caller, resources: ControlPlane) -> JobObject:
    """Retrieve a job: where it is, and at its end how good the model is."""
    return job_object(jobs.get(resources, caller.customer_id, job_id))


@router.post("/{job_id}/cancel", responses=answers(409), dependencies=[needs("train")])
def cancel(job_id: JobId, caller: Caller, resources: ControlPlane) -> JobObject:
    """Stop a job for good. Versions that it has published stay."""
    return job_object(jobs.cancel(resources, caller.customer_id, job_id))


@router.post("/{job_id}/pause", responses=answers(409), dependencies=[needs("train")])
def pause(job_id: JobId, caller: Caller, resources: ControlPlane) -> JobObject:
    """Pause a job until it is resumed."""
    return job_object(jobs.pause(resources, caller.customer_id, job_id))


@router.post("/{job_id}/resume", responses=answers(409), dependencies=[needs("train")])
def resume(job_id: JobId, caller: Caller, resources: ControlPlane) -> JobObject:
    """Resume a paused job."""
    return job_object(jobs.resume(resources, caller.customer_id, job_id))


@router.get("/{job_id}/events", response_model=Listing[EventObject], dependencies=[needs("train", "manage")])
async def events(
    request: Request,
    job_id: JobId,
    caller: Caller,
    resources: ControlPlane,
    *,
    after: After = None,
    limit: Limit = DEFAULT_LIMIT,
    order: Annotated[Literal["desc", "asc"], Query(description="Newest first, or oldest first.")] = "desc",
    stream: Annotated[bool, Query(description="Server-sent events, oldest first, until the job ends.")] = False,
) -> object:
    """List what happened to a job, the newest first; or stream it, oldest first."""
    if stream:
        return await stream_events(request, resources, caller, job_id)
    fetch = jobs.events_page if order == "desc" else jobs.events_after
    page = await run_in_threadpool(fetch, resources, caller.customer_id, job_id, after=after, limit=limit)
    return listing(page, event_object)


@router.get("/{job_id}/checkpoints", dependencies=[needs("train", "manage")])
def checkpoints(
    job_id: JobId, caller: Caller, resources: ControlPlane, after: After = None, limit: Limit = DEFAULT_LIMIT
) -> Listing[CheckpointObject]:
    """List the versions that a job has published, with their metrics."""
    job = jobs.get(resources, caller.customer_id, job_id)
    page = jobs.checkpoints_page(resources, caller.customer_id, job_id, after=after, limit=limit)
    return listing(page, lambda version: checkpoint_object(version, job.fine_tuned_model or ""))
