"""Streams of what is being written: server-sent events that end the writing when their listener is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
import structlog
from fastapi import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.disconnection import unless_gone
from api.errors import InternalError
from models.errors import GraftError
from models.serving.predictor import Predictor
from models.serving.writing import Piece
from models.serving.written_answer import WriteCall, WrittenAnswer

log = structlog.get_logger("graft.api")

Found = tuple[int, Piece]  # the prompt's index, and a piece of its answer


class WrittenStream(StreamingResponse):
    """A stream of events. However it ends, its answers are closed."""

    def __init__(self, events: AsyncIterator[bytes], answers: Sequence[WrittenAnswer]) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until the last one, or until the client is gone."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            close_all(self._answers)


async def begin(request: Request, predictor: Predictor, calls: Sequence[WriteCall]) -> list[WrittenAnswer]:
    """Begin to answer some prompts: all or none, unless the client leaves. Raises what `Predictor.write` does."""
    return await unless_gone(request, _begin(predictor, calls))


async def gather(request: Request, answers: Sequence[WrittenAnswer]) -> list[list[Piece]]:
    """Return all pieces of each answer, unless the client leaves; then they are closed."""
    try:
        return await unless_gone(request, _collect(answers))
    finally:
        close_all(answers)


async def interleave(answers: Sequence[WrittenAnswer]) -> AsyncIterator[Found]:
    """Yield the pieces of all answers as they come. Raises what the first of them fails with."""
    if len(answers) == 1:
        async for piece in answers[0].pieces():
            yield 0, piece
        return
    found: asyncio.Queue[Found | BaseException | None] = asyncio.Queue()

    async def pump(index: int, answer: WrittenAnswer) -> None:
        try:
            async for piece in answer.pieces():
                found.put_nowait((index, piece))
        except Exception as error:
            found.put_nowait(error)
        else:
            found.put_nowait(None)

    pumps = [asyncio.create_task(pump(index, answer)) for index, answer in enumerate(answers)]
    try:
        left = len(pumps)
        while left:
            one = await found.get()
            if isinstance(one, BaseException):
                raise one
            if one is None:
                left -= 1
            else:
                yield one
    finally:
        for task in pumps:
            task.cancel()


async def guarded(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield events; an error that comes when the stream has begun is its last event, as OpenAI sends it."""
    try:
        async for event in events:
            yield event
    except Exception as error:
        yield line({"error": fault_of(error).as_dict()})


def fault_of(error: Exception) -> GraftError:
    """Return what a stream says of an error that it was ended by; one that nobody expected is logged."""
    if isinstance(error, GraftError):
        return error
    log.error("stream failed", exc_info=error)
    return InternalError()


def line(data: dict[str, Any]) -> bytes:
    """Return one event."""
    return b"data: " + orjson.dumps(data, default=str) + b"\n\n"


DONE = b"data: [DONE]\n\n"


def usage_of(answers: Sequence[WrittenAnswer]) -> dict[str, Any]:
    """Return OpenAI's `usage`."""
    prompt = sum(answer.writing.prompt_tokens for answer in answers)
    completion = sum(answer.writing.completion_tokens for answer in answers)
    cached = sum(answer.writing.cached_tokens for answer in answers)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def close_all(answers: Sequence[WrittenAnswer]) -> None:
    """Stop and count all of them."""
    for answer in answers:
        answer.close()


async def _collect(answers: Sequence[WrittenAnswer]) -> list[list[Piece]]:
    pieces: list[list[Piece]] = [[] for _ in answers]
    async for index, piece in interleave(answers):
        pieces[index].append(piece)
    return pieces


async def _begin(predictor: Predictor, calls: Sequence[WriteCall]) -> list[WrittenAnswer]:
    answers: list[WrittenAnswer] = []
    try:
        for call in calls:
            answers.append(await predictor.write(call))
    except BaseException:
        close_all(answers)
        raise
    return answers
