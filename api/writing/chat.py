"""Chat completions that are written."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
from fastapi import Request
from starlette.responses import Response

from api import context
from api.errors import InvalidBody
from api.schemas.chat import CreateChatCompletion, Message
from api.writing.requests import sampling_of, schema_of
from api.writing.streams import DONE, WrittenStream, begin, gather, guarded, interleave, line, usage_of
from api.writing.tool_calls import ToolUse, tool_use
from models.datasets.formats.messages import read_calls
from models.datasets.problems import BadValue
from models.identifiers import new_id
from models.serving.errors import InvalidInput
from models.serving.predictor import Predictor
from models.serving.writing import Piece, TokenLogprob, WriteRequest
from models.serving.written_answer import WriteCall, WrittenAnswer

_BESIDE_CONTENT = ("name", "tool_calls", "tool_call_id")


async def answer(request: Request, predictor: Predictor, body: CreateChatCompletion, customer_id: str) -> Response:
    """Write the assistant's next message, whole or as a stream."""
    tools = tool_use(body.tools, body.tool_choice)
    written = WriteRequest(
        prompt=[_message(message, at) for at, message in enumerate(body.messages)],
        params=sampling_of(
            body,
            max_tokens=body.max_completion_tokens or body.max_tokens,
            logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        ),
        choices=body.n or 1,
        schema=schema_of(body.response_format) if tools.forced is None else tools.forced,
        tools=tools.offered,
    )
    try:
        answers = await begin(request, predictor, [WriteCall(customer_id, body.model, written)])
    except InvalidInput as error:
        if tools.forced is not None and error.param == "response_format":
            raise InvalidBody(reason=str(error), param="tools") from error
        raise
    context.of(request).metrics.predicted_rows.inc()
    head = {
        "id": new_id("chatcmpl-"),
        "created": int(time.time()),
        "model": answers[0].model,
        "system_fingerprint": answers[0].version,
    }
    if body.stream:
        with_usage = bool(body.stream_options and body.stream_options.include_usage)
        events = _events(head, answers, written.choices, tools=tools, with_usage=with_usage)
        return WrittenStream(guarded(events), answers)
    (pieces,) = await gather(request, answers)
    choices = [
        _choice(index, [piece for piece in pieces if piece.choice == index], body, tools)
        for index in range(written.choices)
    ]
    full = {**head, "object": "chat.completion", "choices": choices, "usage": usage_of(answers)}
    return Response(orjson.dumps({**full, "service_tier": "default"}), media_type="application/json")


def _choice(index: int, pieces: Sequence[Piece], body: CreateChatCompletion, tools: ToolUse) -> dict[str, Any]:
    text = "".join(piece.text for piece in pieces)
    reason: str | None = pieces[-1].finish_reason
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    if tools.possible:
        message["content"], calls = tools.split(text)
        reason = tools.finish_reason(reason, calls)
        if calls:
            message["tool_calls"] = calls
    logprobs = logprobs_of([token for piece in pieces for token in piece.logprobs]) if body.logprobs else None
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason}


async def _events(
    head: dict[str, Any], answers: Sequence[WrittenAnswer], count: int, *, tools: ToolUse, with_usage: bool
) -> AsyncIterator[bytes]:
    def chunk(
        index: int, delta: dict[str, Any], logprobs: Sequence[TokenLogprob] = (), reason: str | None = None
    ) -> bytes:
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": logprobs_of(logprobs) if logprobs else None,
            "finish_reason": reason,
        }
        more = {"usage": None} if with_usage else {}
        return line({**head, "object": "chat.completion.chunk", "choices": [choice], **more})

    for index in range(count):
        yield chunk(index, {"role": "assistant", "content": "", "refusal": None})
    held = [""] * count  # where tools may be called, a message is known at its end
    async for _, piece in interleave(answers):
        reason: str | None = piece.finish_reason
        if tools.possible:
            held[piece.choice] += piece.text
        elif piece.text or piece.logprobs:
            yield chunk(piece.choice, {"content": piece.text}, piece.logprobs)
        if tools.possible and reason is not None:
            content, calls = tools.split(held[piece.choice])
            if content is not None:
                yield chunk(piece.choice, {"content": content})
            if calls:
                yield chunk(piece.choice, {"tool_calls": [{"index": at, **call} for at, call in enumerate(calls)]})
            reason = tools.finish_reason(reason, calls)
        if reason is not None:
            yield chunk(piece.choice, {}, reason=reason)
    if with_usage:
        yield line({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage_of(answers)})
    yield DONE


def logprobs_of(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    """Return OpenAI's `logprobs` of a message."""
    return {
        "content": [{**_token(token), "top_logprobs": [_token(other) for other in token.top]} for token in tokens],
        "refusal": None,
    }


def _token(token: TokenLogprob) -> dict[str, Any]:
    # JSON has no infinity; OpenAI writes -9999.0 for the next to impossible.
    return {"token": token.text, "logprob": max(token.logprob, -9999.0), "bytes": list(token.data)}


def _message(message: Message, at: int) -> dict[str, Any]:
    if message.other_parts:
        raise InvalidBody(
            reason=f"A message has a part of type '{message.other_parts[0][:40]}': only text is read.", param="messages"
        )
    try:
        read_calls({"tool_calls": message.tool_calls})
    except BadValue as error:
        raise InvalidBody(reason=f"messages[{at}] {error.reason}. {error.mend}", param="messages") from error
    beside = {name: value for name in _BESIDE_CONTENT if (value := getattr(message, name)) is not None}
    role = {"developer": "system", "function": "tool"}.get(message.role, message.role)
    return {"role": role, "content": message.text, **beside}
