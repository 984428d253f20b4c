"""/v1/fine_tuning/jobs: start, follow and stop training."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from api import context, job_creation
from api.admission import CustomerRoute
from api.authentication import Caller
from api.context import Books, Configuration
from api.documentation import JOB_BODY, answers
from api.event_stream import stream_events
from api.idempotency import OnceOnly
from api.pagination import DEFAULT_LIMIT, After, Limit, listing
from api.schemas.base import Listing
from api.schemas.jobs import CheckpointObject, EventObject, JobObject, checkpoint_object, event_object, job_object
from models.services import jobs

router = APIRouter(
    prefix="/v1/fine_tuning/jobs", tags=["jobs"], route_class=CustomerRoute, responses=answers(401, 404, 429)
)


@router.post("", response_model=JobObject, openapi_extra=JOB_BODY, responses=answers(400, 409, 413))
async def create(request: Request, caller: Caller, books: Books, settings: Configuration, once: OnceOnly) -> Response:
    """Start training: JSON that names an uploaded file or holds the rows, or one multipart form with the file in it."""
    async with job_creation.read(request, settings) as asked:

        def submit() -> Response:
            return once.answer_job(
                asked.fingerprint, lambda token: job_creation.submit(books, caller.customer_id, asked, token)
            )

        # A job on a file that is stored already is short work: it does not wait for other people's uploads.
        return await (context.of(request).validate(submit) if asked.brings_files else run_in_threadpool(submit))


@router.get("")
def list_all(
    request: Request, caller: Caller, books: Books, after: After = None, limit: Limit = DEFAULT_LIMIT
) -> Listing[JobObject]:
    """Your jobs, newest first. `metadata[key]=value` filters."""
    wanted = {
        name[len("metadata[") : -1]: value
        for name, value in request.query_params.items()
        if name.startswith("metadata[") and name.endswith("]")
    }
    page = jobs.list_page(books, caller.customer_id, after=after, limit=limit, metadata=wanted or None)
    return listing(page, job_object)


@router.get("/{job_id}")
def retrieve(job_id: str, caller: Caller, books: Books) -> JobObject:
    """One job: where it is, and at its end how good the model is."""
    return job_object(jobs.get(books, caller.customer_id, job_id))


@router.post("/{job_id}/cancel", responses=answers(409))
def cancel(job_id: str, caller: Caller, books: Books) -> JobObject:
    """Stop a job for good. Versions that it has published stay."""
    return job_object(jobs.cancel(books, caller.customer_id, job_id))


@router.post("/{job_id}/pause", responses=answers(409))
def pause(job_id: str, caller: Caller, books: Books) -> JobObject:
    """Let a job rest until it is resumed."""
    return job_object(jobs.pause(books, caller.customer_id, job_id))


@router.post("/{job_id}/resume", responses=answers(409))
def resume(job_id: str, caller: Caller, books: Books) -> JobObject:
    """Go on with a paused job."""
    return job_object(jobs.resume(books, caller.customer_id, job_id))


@router.get("/{job_id}/events", response_model=Listing[EventObject])
async def events(
    request: Request,
    job_id: str,
    caller: Caller,
    books: Books,
    *,
    after: After = None,
    limit: Limit = DEFAULT_LIMIT,
    stream: Annotated[bool, Query(description="Server-sent events, oldest first, until the job ends.")] = False,
) -> object:
    """What happened to a job: a page, newest first, or a stream, oldest first."""
    if stream:
        return await stream_events(request, books, caller.customer_id, job_id)
    page = await run_in_threadpool(jobs.events_page, books, caller.customer_id, job_id, after=after, limit=limit)
    return listing(page, event_object)


@router.get("/{job_id}/checkpoints")
def checkpoints(
    job_id: str, caller: Caller, books: Books, after: After = None, limit: Limit = DEFAULT_LIMIT
) -> Listing[CheckpointObject]:
    """The versions that a job has published, with their metrics."""
    job = jobs.get(books, caller.customer_id, job_id)
    page = jobs.checkpoints_page(books, caller.customer_id, job_id, after=after, limit=limit)
    return listing(page, lambda version: checkpoint_object(version, job.fine_tuned_model or ""))
