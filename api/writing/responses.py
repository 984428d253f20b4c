"""Responses: OpenAI's newer form of a chat, for text. Nothing of it is stored."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
from fastapi import Request
from starlette.responses import Response

from api import context
from api.errors import InvalidBody
from api.schemas.responses import CreateResponse, InputMessage
from api.writing.requests import require_shallow, schema_of
from api.writing.streams import WrittenStream, begin, fault_of, gather, usage_of
from models.errors import InvalidRequest
from models.identifiers import new_id
from models.serving.predictor import Predictor
from models.serving.writing import Message, Piece, SamplingParams, WriteRequest
from models.serving.written_answer import WriteCall, WrittenAnswer

_TEXT_PARTS = ("input_text", "output_text", "text")
_PARAMS = {"messages": "input", "response_format": "text.format"}  # as this route calls them


async def answer(request: Request, predictor: Predictor, body: CreateResponse, customer_id: str) -> Response:
    """Write the answer, whole or as a stream of events."""
    text_format = (body.text or {}).get("format") or {"type": "text"}
    require_shallow(text_format, param="text.format")
    params = SamplingParams(
        max_tokens=body.max_output_tokens,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
    )
    written = WriteRequest(_messages(body), params, schema=_schema_of(text_format))
    try:
        answers = await begin(request, predictor, [WriteCall(customer_id, body.model, written)])
    except InvalidRequest as error:
        error.param = _PARAMS.get(error.param or "", error.param)
        raise
    context.of(request).metrics.predicted_rows.inc()
    response = _begun(body, answers[0].model, params, text_format)
    if body.stream:
        return WrittenStream(_events(response, answers), answers)
    (pieces,) = await gather(request, answers)
    message = _message(new_id("msg_"), "".join(piece.text for piece in pieces), pieces[-1])
    return Response(orjson.dumps(_ended(response, message, answers)), media_type="application/json")


def _messages(body: CreateResponse) -> list[Message]:
    given = [InputMessage(content=body.input)] if isinstance(body.input, str) else body.input
    messages: list[Message] = [] if body.instructions is None else [{"role": "system", "content": body.instructions}]
    for at, message in enumerate(given):
        if message.type != "message":
            reason = f"input[{at}] is of the type '{message.type}': only messages are read."
            raise InvalidBody(reason=reason, param="input")
        role = "system" if message.role == "developer" else message.role
        messages.append({"role": role, "content": _text_of(message.content, at)})
    return messages


def _text_of(content: Any, at: int) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    if not all(isinstance(part, dict) and part.get("type") in _TEXT_PARTS for part in parts):
        raise InvalidBody(reason=f"input[{at}].content is a text, or parts of the type input_text.", param="input")
    return "\n".join(str(part.get("text", "")) for part in parts)


def _schema_of(text_format: Any) -> Any:
    """Return the JSON schema that `text.format` asks for: that of `response_format`, one level less deep."""
    if isinstance(text_format, dict) and text_format.get("type") == "json_schema":
        text_format = {"type": "json_schema", "json_schema": text_format}
    try:
        return schema_of(text_format if isinstance(text_format, dict) else {"type": None})
    except InvalidBody as error:
        reason = 'text.format is {"type": "text"}, {"type": "json_object"} or {"type": "json_schema", "schema": {…}}.'
        raise InvalidBody(reason=reason, param="text.format") from error


def _begun(body: CreateResponse, model: str, params: SamplingParams, text_format: Any) -> dict[str, Any]:
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "model": model,
        "output": [],
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata or {},
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": False,
        "temperature": params.temperature,
        "text": {"format": text_format},
        "tool_choice": "auto",
        "tools": [],
        "top_p": params.top_p,
        "truncation": "disabled",
        "usage": None,
    }


def _message(message_id: str, text: str, last: Piece) -> dict[str, Any]:
    status = "incomplete" if last.finish_reason == "length" else "completed"
    return {
        "id": message_id,
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}],
    }


def _ended(response: dict[str, Any], message: dict[str, Any], answers: Sequence[WrittenAnswer]) -> dict[str, Any]:
    usage = usage_of(answers)
    details = {"reason": "max_output_tokens"} if message["status"] == "incomplete" else None
    counted = {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": usage["prompt_tokens_details"]["cached_tokens"]},
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage["total_tokens"],
    }
    ended = {"status": message["status"], "incomplete_details": details, "output": [message], "usage": counted}
    return {**response, **ended}


async def _events(response: dict[str, Any], answers: Sequence[WrittenAnswer]) -> AsyncIterator[bytes]:
    """Yield OpenAI's events; an error in the middle is an event of its own, and the last one."""
    numbers = itertools.count()

    def event(kind: str, **data: Any) -> bytes:
        content = orjson.dumps({"type": kind, "sequence_number": next(numbers), **data})
        return b"event: " + kind.encode() + b"\ndata: " + content + b"\n\n"

    item = {"id": new_id("msg_"), "type": "message", "status": "in_progress", "role": "assistant", "content": []}
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    part: dict[str, Any] = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    try:
        yield event("response.created", response=response)
        yield event("response.in_progress", response=response)
        yield event("response.output_item.added", output_index=0, item=item)
        yield event("response.content_part.added", part=part, **place)
        last = Piece(0, "")
        async for piece in answers[0].pieces():
            last = piece
            part = {**part, "text": part["text"] + piece.text}
            if piece.text:
                yield event("response.output_text.delta", delta=piece.text, logprobs=[], **place)
        message = _message(str(item["id"]), part["text"], last)
        yield event("response.output_text.done", text=part["text"], logprobs=[], **place)
        yield event("response.content_part.done", part=part, **place)
        yield event("response.output_item.done", output_index=0, item=message)
        yield event(f"response.{message['status']}", response=_ended(response, message, answers))
    except Exception as failure:
        fault = fault_of(failure)
        yield event("error", code=fault.code, message=str(fault), param=fault.param)
