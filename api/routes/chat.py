"""/v1/chat/completions: a fine-tuned classifier answers a chat request with its label."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from api import context
from api.admission import CustomerRoute, needs
from api.authentication import Caller
from api.disconnection import unless_gone
from api.documentation import answers
from api.errors import InvalidBody
from api.schemas.chat import ChatCompletionObject, CreateChatCompletion, content_of, logprobs_of
from models.identifiers import new_id
from models.serving.errors import InvalidInput
from models.serving.predictor import PredictCall

router = APIRouter(tags=["prediction"], route_class=CustomerRoute)


@router.post(
    "/v1/chat/completions",
    response_model=ChatCompletionObject,
    responses=answers(400, 401, 403, 404, 409, 413, 429, 503),
    dependencies=[needs("predict")],
)
async def create(request: Request, body: CreateChatCompletion, caller: Caller) -> Response:
    """Classify the user's last message; the assistant's answer is the label.

    A model of values answers with the number, one of spans with the JSON that `predict` gives. Pairs of texts are not
    messages: they are for `predict` alone.
    """
    parts = context.of(request)
    if parts.predictor is None:
        raise RuntimeError("this process has no predictor")
    call = PredictCall(
        customer_id=caller.customer_id,
        customer_name=caller.customer_name,
        model_ref=body.model,
        inputs=[body.classified],
        top_k=max(1, body.top_logprobs or 0),
    )
    try:
        answer = await unless_gone(request, parts.predictor.predict(call))
    except InvalidInput as error:
        # It names the only input; the caller sent messages.
        reason = str(error).replace(error.param or "", "The user's last message", 1)
        raise InvalidBody(reason=reason, param="messages") from error
    parts.metrics.predicted_rows.inc()
    prediction, tokens = answer.predictions[0], int(answer.usage["tokens"])
    head = {
        "id": new_id("chatcmpl-"),
        "created": int(time.time()),
        "model": answer.full_name,
        "system_fingerprint": f"v{answer.version}",
        "truncated": bool(answer.truncated),
    }
    content, _ = content_of(prediction)
    logprobs = logprobs_of(prediction, body.top_logprobs or 0) if body.logprobs else None
    usage = {"prompt_tokens": tokens, "completion_tokens": 1, "total_tokens": tokens + 1}
    if body.stream:
        with_usage = usage if body.stream_options and body.stream_options.include_usage else None
        return StreamingResponse(
            _chunks(head, content, logprobs, with_usage),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )
    message = {"role": "assistant", "content": content, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": "stop"}
    full = {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
    return Response(orjson.dumps(full), media_type="application/json")


def _chunks(
    head: dict[str, Any], content: str, logprobs: dict[str, Any] | None, usage: dict[str, int] | None
) -> Iterator[bytes]:
    def line(choices: list[dict[str, Any]], **more: Any) -> bytes:
        return (
            b"data: " + orjson.dumps({**head, "object": "chat.completion.chunk", "choices": choices, **more}) + b"\n\n"
        )

    def choice(delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> list[dict[str, Any]]:
        return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason, **more}]

    yield line(choice({"role": "assistant", "content": ""}))
    yield line(choice({"content": content}, logprobs=logprobs))
    yield line(choice({}, "stop"))
    if usage is not None:
        yield line([], usage=usage)
    yield b"data: [DONE]\n\n"
