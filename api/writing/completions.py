"""Completions: texts that are written on."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
from fastapi import Request
from starlette.responses import Response

from api import context
from api.errors import InvalidBody
from api.schemas.completions import CreateCompletion
from api.writing.requests import sampling_of, schema_of
from api.writing.streams import DONE, WrittenStream, begin, gather, guarded, interleave, line, usage_of
from models.identifiers import new_id
from models.serving.predictor import Predictor
from models.serving.writing import Piece, TokenLogprob, WriteRequest
from models.serving.written_answer import WriteCall, WrittenAnswer


async def answer(request: Request, predictor: Predictor, body: CreateCompletion, customer_id: str) -> Response:
    """Write on from each prompt, whole or as a stream."""
    prompts, n = body.prompts, body.n or 1
    params = sampling_of(body, max_tokens=body.max_tokens, logprobs=body.logprobs)
    schema = schema_of(body.response_format)
    calls = [
        WriteCall(customer_id, body.model, WriteRequest(prompt, params, choices=n, schema=schema)) for prompt in prompts
    ]
    if any(not prompt for prompt in prompts):
        raise InvalidBody(reason="prompt is empty.", param="prompt")
    answers = await begin(request, predictor, calls)
    context.of(request).metrics.predicted_rows.inc(len(prompts))
    head = {
        "id": new_id("cmpl-"),
        "object": "text_completion",
        "created": int(time.time()),
        "model": answers[0].model,
        "system_fingerprint": answers[0].version,
    }
    echoes = prompts if body.echo else [""] * len(prompts)
    if body.stream:
        with_usage = bool(body.stream_options and body.stream_options.include_usage)
        return WrittenStream(guarded(_events(head, answers, n, echoes, with_usage=with_usage)), answers)
    pieces = await gather(request, answers)
    choices = [
        _choice(at * n + choice, [piece for piece in pieces[at] if piece.choice == choice], echoes[at], body.logprobs)
        for at in range(len(prompts))
        for choice in range(n)
    ]
    return Response(
        orjson.dumps({**head, "choices": choices, "usage": usage_of(answers)}), media_type="application/json"
    )


def _choice(index: int, pieces: Sequence[Piece], echo: str, logprobs: int | None) -> dict[str, Any]:
    text = echo + "".join(piece.text for piece in pieces)
    tokens = [token for piece in pieces for token in piece.logprobs]
    return {
        "index": index,
        "text": text,
        "logprobs": None if logprobs is None else _logprobs(tokens, len(echo)),
        "finish_reason": pieces[-1].finish_reason,
    }


async def _events(
    head: dict[str, Any], answers: Sequence[WrittenAnswer], n: int, echoes: Sequence[str], *, with_usage: bool
) -> AsyncIterator[bytes]:
    more = {"usage": None} if with_usage else {}
    shown = [0] * (len(answers) * n)
    for at, echo in enumerate(echoes):
        for index in range(at * n, at * n + n) if echo else ():
            shown[index] = len(echo)
            yield line({**head, "choices": [_chunk(index, echo)], **more})
    async for at, piece in interleave(answers):
        index = at * n + piece.choice
        logprobs = _logprobs(piece.logprobs, shown[index]) if piece.logprobs else None
        shown[index] += len(piece.text)
        yield line({**head, "choices": [_chunk(index, piece.text, logprobs, piece.finish_reason)], **more})
    if with_usage:
        yield line({**head, "choices": [], "usage": usage_of(answers)})
    yield DONE


def _chunk(index: int, text: str, logprobs: dict[str, Any] | None = None, reason: str | None = None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}


def _logprobs(tokens: Sequence[TokenLogprob], offset: int) -> dict[str, Any]:
    """Return the lists that this older form of log probabilities consists of."""
    offsets: list[int] = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.text)
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [max(token.logprob, -9999.0) for token in tokens],
        "top_logprobs": [{other.text: max(other.logprob, -9999.0) for other in token.top} for token in tokens],
        "text_offset": offsets,
    }
