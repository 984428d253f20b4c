"""Chat completions on the wire, as OpenAI has them: a classifier answers with its label."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from api.schemas.base import Body, Many, Metadata, Object, One, OneOrMany
from models.datasets.formats.chat import joined

Number = Annotated[float, Field(ge=-2, le=2)]
_NO_EFFECT = "Accepted, and has no effect on a classifier."


class ContentPart(BaseModel):
    """A part of a message's content. Parts of the message that is classified must be text."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    type: str = Field("text", description="`text`.", max_length=40)
    text: str | None = Field(None, description="The text.")


class Message(Body):
    """A message. The last one of the user's is classified; the others are read and not used."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"] = Field(description="Who wrote it.")
    content: (
        Annotated[Annotated[str, One] | Annotated[list[ContentPart], Field(fail_fast=True), Many], OneOrMany] | None
    ) = Field(None, description="A text, or its parts.")
    name: str | None = Field(None, description="Accepted and not used.")
    refusal: str | None = Field(None, description="Accepted and not used.")
    # What comes back in a history: an earlier answer as the SDK holds it, calls of tools and their results.
    annotations: Any = Field(None, description="Accepted and not used.")
    audio: Any = Field(None, description="Accepted and not used.")
    function_call: Any = Field(None, description="Accepted and not used.")
    tool_calls: Any = Field(None, description="Accepted and not used.")
    tool_call_id: str | None = Field(None, description="Accepted and not used.")
    weight: float | None = Field(None, description="Accepted and not used: it is of training.")

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, values: Any) -> Any:
        """A field that is null is as good as one that is absent, whatever it is called."""
        return (
            {name: value for name, value in values.items() if value is not None} if isinstance(values, dict) else values
        )

    @property
    def text(self) -> str:
        """The content as one text."""
        if isinstance(self.content, list):
            return joined([part.text or "" for part in self.content])
        return self.content or ""

    @property
    def other_parts(self) -> list[str]:
        """Kinds of the parts that are not text."""
        return [part.type for part in self.content if part.type != "text"] if isinstance(self.content, list) else []


class StreamOptions(Body):
    """Options of a stream's end."""

    include_usage: bool | None = Field(None, description="Whether the last chunk carries the usage.")
    include_obfuscation: bool | None = Field(None, description="Accepted and not used.")


class CreateChatCompletion(Body):
    """OpenAI's request. What steers the writing of text is accepted and has no effect on a classifier."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "first-steps",
                    "messages": [{"role": "user", "content": "Where is my card?"}],
                    "logprobs": True,
                    "top_logprobs": 2,
                }
            ]
        }
    )

    model: str = Field(description="A fine-tuned model's name.", min_length=1, max_length=300)
    messages: Annotated[list[Message], Field(fail_fast=True)] = Field(
        description="The last message of the user's is classified.", min_length=1, max_length=2048
    )
    logprobs: bool | None = Field(None, description="Whether to return the label's log probability.")
    top_logprobs: int | None = Field(None, description="How many of the best labels to return beside it.", ge=0, le=20)
    stream: bool | None = Field(None, description="Server-sent events, as OpenAI sends them.")
    stream_options: StreamOptions | None = Field(None, description="What a stream holds at its end.")
    n: Literal[1] | None = Field(None, description="A classifier has one answer.")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(None, description=_NO_EFFECT)
    top_p: Annotated[float, Field(ge=0, le=1)] | None = Field(None, description=_NO_EFFECT)
    max_tokens: Annotated[int, Field(ge=1)] | None = Field(None, description=_NO_EFFECT)
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = Field(None, description=_NO_EFFECT)
    presence_penalty: Number | None = Field(None, description=_NO_EFFECT)
    frequency_penalty: Number | None = Field(None, description=_NO_EFFECT)
    stop: Annotated[Annotated[str, One] | Annotated[list[str], Field(fail_fast=True), Many], OneOrMany] | None = Field(
        None, description=_NO_EFFECT
    )
    seed: int | None = Field(None, description=_NO_EFFECT)
    user: str | None = Field(None, description=_NO_EFFECT)
    safety_identifier: str | None = Field(None, description=_NO_EFFECT)
    store: bool | None = Field(None, description=_NO_EFFECT)
    service_tier: str | None = Field(None, description=_NO_EFFECT)
    metadata: Metadata | None = Field(None, description=_NO_EFFECT)
    response_format: dict[str, Any] | None = Field(None, description='Accepted when it is {"type": "text"}.')
    tools: Any = Field(None, description=_NO_EFFECT)
    tool_choice: Any = Field(None, description=_NO_EFFECT)
    parallel_tool_calls: bool | None = Field(None, description=_NO_EFFECT)
    functions: Any = Field(None, description=_NO_EFFECT)
    function_call: Any = Field(None, description=_NO_EFFECT)
    reasoning_effort: str | None = Field(None, description=_NO_EFFECT)
    verbosity: str | None = Field(None, description=_NO_EFFECT)
    logit_bias: Any = Field(None, description=_NO_EFFECT)
    prediction: Any = Field(None, description=_NO_EFFECT)
    prompt_cache_key: str | None = Field(None, description=_NO_EFFECT)
    modalities: list[Literal["text"]] | None = Field(None, description='Accepted when it is ["text"].')

    @model_validator(mode="after")
    def _check(self) -> CreateChatCompletion:
        if self.top_logprobs is not None and not self.logprobs:
            raise _invalid("top_logprobs", "top_logprobs needs logprobs to be true.")
        if self.response_format not in (None, {"type": "text"}):
            raise _invalid("response_format", 'A classifier answers with a label: only {"type": "text"} is offered.')
        asked = [message for message in self.messages if message.role == "user"]
        if not any(message.text or message.other_parts for message in asked):
            raise _invalid("messages", "messages holds no message of the user's to classify.")
        if kinds := self._asked.other_parts:
            raise _invalid(
                "messages", f"The user's last message has a part of type '{kinds[0][:40]}': only text is read."
            )
        return self

    @property
    def classified(self) -> str:
        """The text to classify: the last message of the user's."""
        return self._asked.text

    @property
    def _asked(self) -> Message:
        users = [message for message in self.messages if message.role == "user"]
        return next(message for message in reversed(users) if message.text or message.other_parts)


class ChatCompletionObject(Object):
    """The answer: the label as the assistant's message."""

    object: Literal["chat.completion"] = "chat.completion"
    id: str = Field(description="`chatcmpl-…`.")
    created: int = Field(description="Unix time in seconds.")
    model: str = Field(description="The full name of the model that answered.")
    choices: list[dict[str, Any]] = Field(description="One: the label as the assistant's message.")
    usage: dict[str, int] = Field(description="Tokens that were read.")
    system_fingerprint: str | None = Field(None, description="The version that answered: `v3`.")
    truncated: bool = Field(description="Whether the message is longer than what the base reads.")


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
    # JSON has no infinity; OpenAI writes -9999.0 for the next to impossible.
    logprob = math.log(probability) if probability > 0 else -9999.0
    return {"token": text, "logprob": min(logprob, 0.0), "bytes": list(text.encode())}


def _invalid(field: str, message: str) -> PydanticCustomError:
    return PydanticCustomError("invalid_field", "{message}", {"field": field, "message": message})
