"""Chat completions of models that do not write: the assistant's message is the label, the number or the spans."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import orjson
from fastapi import Request
from starlette.responses import Response, StreamingResponse

from api import context
from api.classified_input import asked
from api.disconnection import unless_gone
from api.errors import InvalidBody
from api.schemas.chat import CreateChatCompletion
from models.datasets.errors import InvalidMedia
from models.identifiers import new_id
from models.learning import tasks
from models.serving.errors import InvalidInput
from models.serving.predictor import PredictCall, Predictor


async def answer(
    request: Request, predictor: Predictor, body: CreateChatCompletion, customer_id: str, customer_name: str
) -> Response:
    """Answer the user's last message."""
    _refuse_writing(body)
    task = await predictor.task_of(customer_id, body.model)
    question = asked(body, task.modality)
    lists_labels = tasks.find(task.name).scored_labels != "none"
    call = PredictCall(
        customer_id=customer_id,
        customer_name=customer_name,
        model_ref=body.model,
        inputs=[question.value],
        top_k=(body.top_logprobs or None) if lists_labels else None,  # values, spans and boxes have none beside them
    )
    try:
        answer = await unless_gone(request, predictor.predict(call))
    except InvalidInput as error:
        # It names the only input; the caller sent messages.
        reason = str(error).replace(error.param or "", "The user's last message", 1)
        raise InvalidBody(reason=reason, param="messages") from error
    except InvalidMedia as error:
        raise error.at(question.param) from error
    context.of(request).metrics.predicted_rows.inc()
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


def _refuse_writing(body: CreateChatCompletion) -> None:
    """Raise InvalidBody for what only models that write do."""
    if body.response_format not in (None, {"type": "text"}):
        reason = 'A classifier answers with a label: only {"type": "text"} is offered.'
        raise InvalidBody(reason=reason, param="response_format")
    if body.n not in (None, 1):
        raise InvalidBody(reason="A classifier has one answer: n is 1.", param="n")


def logprobs_of(prediction: dict[str, Any], top_k: int) -> dict[str, Any]:
    """Return the label as one token with its log probability, and the `top_k` best beside it."""
    top = prediction.get("top") or []
    entry = _token(*content_of(prediction))
    return {
        "content": [{**entry, "top_logprobs": [_token(e["label"], e["score"]) for e in top[:top_k]]}],
        "refusal": None,
    }


def content_of(prediction: dict[str, Any]) -> tuple[str, float]:
    """Return the assistant's answer and its probability.

    Several labels are joined by commas, a number is written out, all else (spans, boxes) is the JSON that `predict`
    answers.
    """
    if "label" in prediction:
        return str(prediction["label"]), float(prediction["score"])
    if "labels" in prediction:
        scores = prediction.get("scores") or {}
        labels = [str(label) for label in prediction["labels"]]
        return ", ".join(labels), math.prod(float(scores.get(label, 1.0)) for label in labels)
    if "value" in prediction:
        return str(prediction["value"]), 1.0
    return orjson.dumps(prediction, option=orjson.OPT_SERIALIZE_NUMPY).decode(), 1.0


def _token(text: str, probability: float) -> dict[str, Any]:
    # JSON has no infinity; OpenAI writes -9999.0 for the next to impossible.
    logprob = math.log(probability) if probability > 0 else -9999.0
    return {"token": text, "logprob": min(logprob, 0.0), "bytes": list(text.encode())}
