"""A job's events as server-sent events. The stream ends when the job does, and goes on from `Last-Event-ID`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import anyio
from fastapi import Request
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from api.authentication import is_still_admitted
from api.schemas.jobs import event_object, job_object
from models.errors import NotFound
from models.records.transitions import ENDED
from models.services import jobs
from models.services.resources import Resources

_POLL_S = 1.0
_HEARTBEAT_S = 15
_BATCH = 100


async def stream_events(request: Request, resources: Resources, customer_id: str, job_id: str) -> EventSourceResponse:
    """`fine_tuning.job.event` for each event, `fine_tuning.job` when the job changes, `done` at its end.

    Without `done` it ends when the caller's key does.

    Raises NotFound before the stream begins.
    """
    await run_in_threadpool(jobs.get, resources, customer_id, job_id)
    last = request.headers.get("last-event-id", "")
    seq = int(last) if last.isascii() and last.isdecimal() and len(last) < 19 else 0
    return EventSourceResponse(
        _until_gone(_follow(request, resources, customer_id, job_id, seq)),
        ping=_HEARTBEAT_S,
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


async def _until_gone(events: AsyncIterator[ServerSentEvent]) -> AsyncIterator[ServerSentEvent]:
    # The customer may be deleted during the stream; it then just ends.
    with contextlib.suppress(NotFound):
        async for event in events:
            yield event


async def _follow(
    request: Request, resources: Resources, customer_id: str, job_id: str, seq: int
) -> AsyncIterator[ServerSentEvent]:
    shown = ""
    # A stream may last for hours: a key that is revoked or expires meanwhile ends it as fast as any other access.
    while await is_still_admitted(request):
        # The job first: all that it did before it ended is then among the events that are read after it.
        job = await run_in_threadpool(jobs.get, resources, customer_id, job_id)
        while batch := await run_in_threadpool(jobs.events_since, resources, customer_id, job_id, seq):
            for event in batch:
                seq = event.seq
                yield ServerSentEvent(event_object(event).model_dump_json(), id=str(seq), event="fine_tuning.job.event")
            if len(batch) < _BATCH:
                break
        state = job_object(job)
        now = state.model_dump_json(exclude={"estimated_finish"})
        if now != shown:
            shown = now
            yield ServerSentEvent(state.model_dump_json(), event="fine_tuning.job")
        if job.status in ENDED:
            yield ServerSentEvent("[DONE]", event="done")
            return
        await anyio.sleep(_POLL_S)
