"""Followed jobs of one process: one look at the database a second for all event streams together.

Each stream used to look by itself, on a thread, several times a second: 300 of them took half of the processor from the
predictions beside them, whether or not anything happened.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import structlog
from sse_starlette import ServerSentEvent
from starlette.concurrency import run_in_threadpool

from api.schemas.jobs import event_object, job_object
from models.records.job_events import JobEvent
from models.records.jobs import Job
from models.records.transitions import ENDED
from models.services import following
from models.services.following import News, Position
from models.services.resources import Resources

log = structlog.get_logger("graft.api")

POLL_S = 1.0
# Streams that are further behind read from the database.
_KEPT_EVENTS = 200


@dataclass(frozen=True, slots=True)
class JobState:
    """A job as streams show it: the line, and what it says besides the time at which it may end."""

    line: bytes
    shown: str
    ended: bool


@dataclass(slots=True)
class Followed:
    """What is known of one job, for all streams that follow it."""

    position: Position
    floor: int = 0  # events up to this number are not among `recent`
    state: JobState | None = None
    recent: deque[tuple[int, bytes]] = field(default_factory=deque)
    gone: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)  # a new one after each change
    streams: int = 0

    def since(self, seq: int) -> list[tuple[int, bytes]]:
        """Return the kept events after one of them: number and line."""
        return [event for event in self.recent if event[0] > seq] if seq < self.position.seq else []


class JobFeed:
    """The jobs that streams of this process follow. Belongs to one event loop."""

    def __init__(self, poll_s: float = POLL_S) -> None:
        self._poll_s = poll_s
        self._followed: dict[str, Followed] = {}
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def follow(self, resources: Resources, customer_id: str, job_id: str) -> Iterator[Followed]:
        """Follow a job of a customer until the context ends. What was before is the caller's to read, afterwards."""
        followed = self._followed.get(job_id)
        if followed is None:
            followed = self._followed[job_id] = Followed(Position(customer_id, job_id))
        followed.streams += 1
        if self._task is None:
            self._task = asyncio.create_task(self._run(resources), name="job-feed")
        try:
            yield followed
        finally:
            followed.streams -= 1
            if not followed.streams:
                self._followed.pop(job_id, None)

    async def _run(self, resources: Resources) -> None:
        while self._followed:
            known = [followed.position for followed in self._followed.values()]
            try:
                news = await run_in_threadpool(_look, resources, known)
            except Exception as error:  # the database is away: the streams go on when it is back
                log.warning("job_feed.look_failed", error=str(error))
                news = []
            for one in news:
                self._publish(*one)
                await asyncio.sleep(0)  # other requests in between: each of these wakes all of a job's streams
            await asyncio.sleep(self._poll_s)
        self._task = None

    def _publish(self, news: News, state: JobState | None, lines: list[tuple[int, bytes]]) -> None:
        followed = self._followed.get(news.job_id)
        if followed is None:  # the last stream has left meanwhile
            return
        followed.gone = state is None
        followed.state = state
        if followed.position.mark is None:
            followed.floor = news.since
        followed.recent.extend(lines)
        while len(followed.recent) > _KEPT_EVENTS:
            followed.floor, _ = followed.recent.popleft()
        seq = lines[-1][0] if lines else news.since
        followed.position = Position(followed.position.customer_id, news.job_id, news.mark, seq)
        followed.changed.set()
        followed.changed = asyncio.Event()


def event_line(event: JobEvent) -> bytes:
    """Return an event as it goes over the line."""
    text = event_object(event).model_dump_json()
    return ServerSentEvent(text, id=str(event.seq), event="fine_tuning.job.event").encode()


def job_state(job: Job) -> JobState:
    """Return a job as streams show it."""
    state = job_object(job)
    line = ServerSentEvent(state.model_dump_json(), event="fine_tuning.job").encode()
    return JobState(line, state.model_dump_json(exclude={"estimated_finish"}), job.status in ENDED)


def _look(resources: Resources, known: list[Position]) -> list[tuple[News, JobState | None, list[tuple[int, bytes]]]]:
    """Look for news and write them down, on a thread: once for all of a job's streams."""
    return [
        (news, None if news.job is None else job_state(news.job), [(e.seq, event_line(e)) for e in news.events])
        for news in following.look(resources, known)
    ]
