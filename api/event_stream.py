"""A job's events as server-sent events. The stream ends when the job does, and goes on from `Last-Event-ID`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from fastapi import Request
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from api import context
from api.authentication import is_still_admitted
from api.job_feed import POLL_S, Followed, JobFeed, JobState, event_line, job_state
from models.errors import NotFound, Unavailable
from models.services import jobs
from models.services.access.resolver import Principal
from models.services.resources import Resources

_HEARTBEAT_S = 15
_BATCH = 100
_DONE = ServerSentEvent("[DONE]", event="done").encode()


async def stream_events(request: Request, resources: Resources, caller: Principal, job_id: str) -> EventSourceResponse:
    """`fine_tuning.job.event` for each event, `fine_tuning.job` when the job changes, `done` at its end.

    Without `done` it ends when the caller's key does.

    Raises NotFound before the stream begins, and TooManyStreams.
    """
    await run_in_threadpool(jobs.get, resources, caller.customer_id, job_id)
    parts = context.of(request)
    last = request.headers.get("last-event-id", "")
    seq = int(last) if last.isascii() and last.isdecimal() and len(last) < 19 else 0
    events = _follow(request, parts.feed, _Stream(resources, caller.customer_id, job_id, seq))
    return _CountedStream(
        _until_gone(events),
        release=parts.streams.open(caller.customer_id, caller.key_id),
        ping=_HEARTBEAT_S,
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


class _CountedStream(EventSourceResponse):
    """A stream that counts against its caller's limit until it has ended, however it ends."""

    def __init__(self, content: AsyncIterator[bytes], *, release: Callable[[], None], **options: Any) -> None:
        super().__init__(content, **options)
        self._release = release

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._release()


async def _until_gone(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    # The customer may be deleted during the stream; it then just ends.
    with contextlib.suppress(NotFound):
        async for line in lines:
            yield line


class _Stream:
    """One client's way through a job's events; `seq` is the number of the last one that it got."""

    def __init__(self, resources: Resources, customer_id: str, job_id: str, seq: int) -> None:
        self.resources = resources
        self.customer_id = customer_id
        self.job_id = job_id
        self.seq = seq

    async def state(self) -> JobState:
        """Return the job as it is now."""
        return job_state(await run_in_threadpool(jobs.get, self.resources, self.customer_id, self.job_id))

    async def stored(self) -> AsyncIterator[bytes]:
        """Yield the next events from the database."""
        read = jobs.events_since
        while batch := await run_in_threadpool(
            read, self.resources, self.customer_id, self.job_id, self.seq, limit=_BATCH
        ):
            for event in batch:
                self.seq = event.seq
                yield event_line(event)
            if len(batch) < _BATCH:
                return

    def kept(self, followed: Followed) -> Iterator[bytes]:
        """Yield the next events from those that the feed keeps."""
        for number, line in followed.since(self.seq):
            self.seq = number
            yield line


async def _follow(request: Request, feed: JobFeed, stream: _Stream) -> AsyncIterator[bytes]:
    with feed.follow(stream.resources, stream.customer_id, stream.job_id) as followed:
        before = followed.state  # older than what is read now
        # The job first: all that it did before it ended is then among the events that are read after it.
        state = await stream.state()
        async for line in stream.stored():
            yield line
        yield state.line
        # A stream may last for hours: a key that is revoked or expires meanwhile ends it as fast as any other access.
        while not state.ended and not followed.gone:
            try:
                if not await is_still_admitted(request):
                    break
                changed, now = followed.changed, followed.state
                if stream.seq < followed.floor:
                    async for line in stream.stored():
                        yield line
            except Unavailable:  # nothing is sent to a key that nobody vouches for; the stream goes on when one does
                await asyncio.sleep(POLL_S)
                continue
            for line in stream.kept(followed):
                yield line
            if now is not None and now is not before and now.shown != state.shown:
                state = now
                yield state.line
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), POLL_S)
        if state.ended:
            yield _DONE
