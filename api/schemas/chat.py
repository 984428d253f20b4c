"""Chat completions on the wire, as OpenAI has them: a model that writes answers with a text, a classifier its label."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from api.schemas.base import Body, Many, Metadata, Object, One, OneOrMany
from models.datasets.formats.chat import joined
from models.identifiers import LONGEST_REFERENCE
from models.serving.schema_length import MOST_SCHEMA_CHARS

Number = Annotated[float, Field(ge=-2, le=2)]
_NO_EFFECT = "Accepted and not used."
_WRITING = " Has no effect on a classifier."


class ImageUrl(BaseModel):
    """A picture. `detail` is accepted and not used."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    url: str = Field(description="A data URL, `data:image/jpeg;base64,…`. Nothing is fetched from an address.")


class InputAudio(BaseModel):
    """A sound."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    data: str = Field(description="The file as base64.")
    format: str | None = Field(
        None, description="`wav`, `flac`, `ogg`. The bytes decide, whatever it says.", max_length=40
    )


class ContentPart(BaseModel):
    """A part of a message's content: a text, or the picture or sound that a classifier of those is asked about."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    type: str = Field("text", description="`text`, `image_url` or `input_audio`.", max_length=40)
    text: str | None = Field(None, description="The text.")
    image_url: ImageUrl | None = Field(None, description="The picture of a part of this type.")
    input_audio: InputAudio | None = Field(None, description="The sound of a part of this type.")


class Message(Body):
    """A message. A model that writes reads all of them; a classifier the user's last one."""

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
    def parts(self) -> list[ContentPart]:
        """The parts of the content; a text that is not in parts is none."""
        return self.content if isinstance(self.content, list) else []

    @property
    def other_parts(self) -> list[str]:
        """Kinds of the parts that are not text."""
        return [part.type for part in self.parts if part.type != "text"]


class StreamOptions(Body):
    """Options of a stream's end."""

    include_usage: bool | None = Field(None, description="Whether the last chunk carries the usage.")
    include_obfuscation: bool | None = Field(None, description="Accepted and not used.")


class CreateChatCompletion(Body):
    """OpenAI's request. What steers the writing of text has no effect on a classifier."""

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

    model: str = Field(
        description="A fine-tuned model's name, or that of a base that writes.",
        min_length=1,
        max_length=LONGEST_REFERENCE,
    )
    messages: Annotated[list[Message], Field(fail_fast=True)] = Field(
        description="The conversation so far; a classifier reads the user's last message: its text, or its one picture "
        "or sound if that is what the model was trained on.",
        min_length=1,
        max_length=2048,
    )
    logprobs: bool | None = Field(None, description="Whether to return log probabilities: of tokens, or of the label.")
    top_logprobs: int | None = Field(
        None, description="How many of the best tokens or labels to return beside it.", ge=0, le=20
    )
    stream: bool | None = Field(None, description="Server-sent events, as OpenAI sends them.")
    stream_options: StreamOptions | None = Field(None, description="What a stream holds at its end.")
    n: Annotated[int, Field(ge=1, le=16)] | None = Field(None, description="Answers; a classifier has one.")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(
        None, description="1 if nothing is said; 0: the most probable token each time." + _WRITING
    )
    top_p: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Only the most probable tokens that make up this share." + _WRITING
    )
    max_tokens: Annotated[int, Field(ge=1)] | None = Field(None, description="Most tokens of an answer." + _WRITING)
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = Field(None, description="The same." + _WRITING)
    presence_penalty: Number | None = Field(None, description="Against tokens that were written before." + _WRITING)
    frequency_penalty: Number | None = Field(None, description="The same, by how often they were." + _WRITING)
    stop: Annotated[Annotated[str, One] | Annotated[list[str], Field(fail_fast=True), Many], OneOrMany] | None = Field(
        None, description="Where an answer ends, before it." + _WRITING
    )
    seed: int | None = Field(None, description="Makes the answer repeatable." + _WRITING)
    user: str | None = Field(None, description=_NO_EFFECT)
    safety_identifier: str | None = Field(None, description=_NO_EFFECT)
    store: bool | None = Field(None, description=_NO_EFFECT)
    service_tier: str | None = Field(None, description=_NO_EFFECT)
    metadata: Metadata | None = Field(None, description=_NO_EFFECT)
    response_format: dict[str, Any] | None = Field(
        None,
        description=f"text, json_object, json_schema ({MOST_SCHEMA_CHARS:,} characters at most); "
        "a classifier answers with text.",
    )
    tools: Any = Field(None, description="Functions that may be called, if the base's template knows them." + _WRITING)
    tool_choice: Any = Field(
        None, description="none, auto, required, or a function by its name: then the answer is a call." + _WRITING
    )
    parallel_tool_calls: bool | None = Field(None, description=_NO_EFFECT)
    functions: Any = Field(None, description=_NO_EFFECT)
    function_call: Any = Field(None, description=_NO_EFFECT)
    reasoning_effort: str | None = Field(None, description=_NO_EFFECT)
    verbosity: str | None = Field(None, description=_NO_EFFECT)
    logit_bias: Any = Field(None, description="Token ids with what is added to their scores." + _WRITING)
    prediction: Any = Field(None, description=_NO_EFFECT)
    prompt_cache_key: str | None = Field(None, description=_NO_EFFECT)
    modalities: list[Literal["text"]] | None = Field(None, description='Accepted when it is ["text"].')

    @model_validator(mode="after")
    def _check(self) -> CreateChatCompletion:
        if self.top_logprobs is not None and not self.logprobs:
            raise _invalid("top_logprobs", "top_logprobs needs logprobs to be true.")
        return self


class ChatCompletionObject(Object):
    """The answer: the assistant's message."""

    object: Literal["chat.completion"] = "chat.completion"
    id: str = Field(description="`chatcmpl-…`.")
    created: int = Field(description="Unix time in seconds.")
    model: str = Field(description="The full name of the model that answered.")
    choices: list[dict[str, Any]] = Field(description="The assistant's messages, `n` of them.")
    usage: dict[str, Any] = Field(description="Tokens that were read, found computed, and written.")
    system_fingerprint: str | None = Field(None, description="The version that answered: `v3`.")
    service_tier: str | None = Field(None, description="`default`.")
    truncated: bool = Field(False, description="Whether the message is longer than what a classifier's base reads.")


def _invalid(field: str, message: str) -> PydanticCustomError:
    return PydanticCustomError("invalid_field", "{message}", {"field": field, "message": message})
