"""Completions on the wire, as OpenAI has them: a prompt is written on."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from api.schemas.base import Body, Many, Object, One, OneOrMany
from api.schemas.chat import Number, StreamOptions
from models.identifiers import LONGEST_REFERENCE

_MOST_PROMPTS = 32
_NO_EFFECT = "Accepted and not used."


class CreateCompletion(Body):
    """OpenAI's request. A version that was taught by chats reads the prompt as a user's message."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "ft:smollm2:...", "prompt": "Once upon a time", "max_tokens": 32}]}
    )

    model: str = Field(
        description="A fine-tuned model's name, or that of a base that writes.",
        min_length=1,
        max_length=LONGEST_REFERENCE,
    )
    prompt: Annotated[
        Annotated[str, One] | Annotated[list[str], Field(fail_fast=True, max_length=_MOST_PROMPTS), Many], OneOrMany
    ] = Field(description="A text, or several: each is written on.")
    max_tokens: Annotated[int, Field(ge=1)] | None = Field(16, description="Most tokens of an answer.")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(
        None, description="1 if nothing is said; 0: the most probable token each time."
    )
    top_p: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Only the most probable tokens that make up this share."
    )
    n: Annotated[int, Field(ge=1, le=16)] | None = Field(None, description="Answers per prompt.")
    stop: Annotated[Annotated[str, One] | Annotated[list[str], Field(fail_fast=True), Many], OneOrMany] | None = Field(
        None, description="Where an answer ends, before it."
    )
    seed: int | None = Field(None, description="Makes the answer repeatable.")
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = Field(
        None, description="Log probabilities, and so many of the best tokens."
    )
    echo: bool | None = Field(None, description="Whether the prompt stands in front of the answer.")
    stream: bool | None = Field(None, description="Server-sent events, as OpenAI sends them.")
    stream_options: StreamOptions | None = Field(None, description="What a stream holds at its end.")
    presence_penalty: Number | None = Field(None, description="Against tokens that were written before.")
    frequency_penalty: Number | None = Field(None, description="The same, by how often they were.")
    logit_bias: Any = Field(None, description="Token ids with what is added to their scores.")
    response_format: dict[str, Any] | None = Field(None, description="text, json_object or json_schema.")
    best_of: Literal[1] | None = Field(None, description="1.")
    suffix: Literal[""] | None = Field(None, description="Nothing is written in front of a text.")
    user: str | None = Field(None, description=_NO_EFFECT)

    @property
    def prompts(self) -> list[str]:
        """The prompts as a list."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt


class CompletionObject(Object):
    """The answer: what was written on."""

    object: Literal["text_completion"] = "text_completion"
    id: str = Field(description="`cmpl-…`.")
    created: int = Field(description="Unix time in seconds.")
    model: str = Field(description="The full name of the model that answered.")
    choices: list[dict[str, Any]] = Field(description="`n` per prompt, in the order of the prompts.")
    usage: dict[str, Any] = Field(description="Tokens that were read, found computed, and written.")
    system_fingerprint: str | None = Field(None, description="The version that answered: `v3`.")
