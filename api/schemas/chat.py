"""Chat completions on the wire, as OpenAI has them: a classifier answers with its label."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import orjson
from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from api.schemas.base import Body, Many, Metadata, Object, One, OneOrMany

Number = Annotated[float, Field(ge=-2, le=2)]


class TextPart(Body):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


class Message(Body):
    """A message. The last one of the user's is classified; the others are read and not used."""

    role: Literal["system", "developer", "user", "assistant"]
    content: (
        Annotated[Annotated[str, One] | Annotated[list[TextPart], Field(fail_fast=True), Many], OneOrMany] | None
    ) = None
    name: str | None = None
    refusal: str | None = None

    @property
    def text(self) -> str:
        """The content as one text."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(Body):
    """What a stream tells at its end."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class CreateChatCompletion(Body):
    """OpenAI's request. What steers the writing of text is accepted and has no effect on a classifier."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "tickets",
                    "messages": [{"role": "user", "content": "Where is my card?"}],
                    "logprobs": True,
                    "top_logprobs": 2,
                }
            ]
        }
    )

    model: str = Field(description="A fine-tuned model's name.", min_length=1, max_length=300)
    messages: Annotated[list[Message], Field(fail_fast=True)] = Field(min_length=1, max_length=2048)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = Field(None, description="A classifier has one answer.")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    presence_penalty: Number | None = None
    frequency_penalty: Number | None = None
    stop: Annotated[Annotated[str, One] | Annotated[list[str], Field(fail_fast=True), Many], OneOrMany] | None = None
    seed: int | None = None
    user: str | None = None
    safety_identifier: str | None = None
    store: bool | None = None
    service_tier: str | None = None
    metadata: Metadata | None = None
    response_format: dict[str, Any] | None = Field(None, description='Accepted when it is {"type": "text"}.')

    @model_validator(mode="after")
    def _check(self) -> CreateChatCompletion:
        if self.top_logprobs is not None and not self.logprobs:
            raise _invalid("top_logprobs", "top_logprobs needs logprobs to be true.")
        if self.response_format not in (None, {"type": "text"}):
            raise _invalid("response_format", 'A classifier answers with a label: only {"type": "text"} is offered.')
        if not any(message.role == "user" and message.text for message in self.messages):
            raise _invalid("messages", "messages holds no message of the user's to classify.")
        return self

    @property
    def classified(self) -> str:
        """The text to classify: the last message of the user's."""
        return next(message.text for message in reversed(self.messages) if message.role == "user" and message.text)


class ChatCompletionObject(Object):
    """The answer: the label as the assistant's message."""

    object: Literal["chat.completion"] = "chat.completion"
    id: str
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: dict[str, int]
    system_fingerprint: str | None = None


def logprobs_of(prediction: dict[str, Any], top_k: int) -> dict[str, Any]:
    """The label as one token with its log probability, and the `top_k` best beside it."""
    top = prediction.get("top") or []
    entry = _token(*content_of(prediction))
    return {
        "content": [{**entry, "top_logprobs": [_token(e["label"], e["score"]) for e in top[:top_k]]}],
        "refusal": None,
    }


def content_of(prediction: dict[str, Any]) -> tuple[str, float]:
    """What the assistant says, and how likely it is.

    Several labels are joined by commas, a number is written out, spans are the JSON that `predict` answers.
    """
    if "label" in prediction:
        return str(prediction["label"]), float(prediction["score"])
    if "labels" in prediction:
        scores = prediction.get("scores") or {}
        labels = [str(label) for label in prediction["labels"]]
        return ", ".join(labels), math.prod(float(scores.get(label, 1.0)) for label in labels)
    if "spans" in prediction:
        return orjson.dumps(prediction).decode(), 1.0
    return str(prediction.get("value", "")), 1.0


def _token(text: str, probability: float) -> dict[str, Any]:
    # JSON has no infinity; OpenAI writes -9999.0 for what is next to impossible.
    logprob = math.log(probability) if probability > 0 else -9999.0
    return {"token": text, "logprob": min(logprob, 0.0), "bytes": list(text.encode())}


def _invalid(field: str, message: str) -> PydanticCustomError:
    return PydanticCustomError("invalid_field", "{message}", {"field": field, "message": message})
