"""Responses on the wire, as OpenAI has them: what of them a model that writes can answer by itself."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.base import Body, Many, Metadata, Object, One, OneOrMany
from models.identifiers import LONGEST_REFERENCE
from models.serving.schema_length import MOST_SCHEMA_CHARS

_NO_EFFECT = "Accepted and not used."


class InputMessage(BaseModel):
    """A message of the input: its role and content, or what an earlier answer's `output` holds."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    type: str = Field("message", description="`message`.", max_length=40)
    role: Literal["system", "developer", "user", "assistant"] = Field("user", description="Who wrote it.")
    content: Any = Field("", description="A text, or its parts.")


class CreateResponse(Body):
    """OpenAI's request, for text. Nothing is stored: a conversation is sent with each request."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model": "ft:smollm2:...", "input": "Where is my card?", "max_output_tokens": 60}]
        }
    )

    model: str = Field(
        description="A model that writes, by its name, or a base that writes.",
        min_length=1,
        max_length=LONGEST_REFERENCE,
    )
    input: Annotated[
        Annotated[str, One] | Annotated[list[InputMessage], Field(fail_fast=True, max_length=2048), Many], OneOrMany
    ] = Field(description="The user's message, or a conversation.")
    instructions: str | None = Field(None, description="A system message in front of the input.")
    max_output_tokens: Annotated[int, Field(ge=1)] | None = Field(None, description="Most tokens of the answer.")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(
        None, description="1 if nothing is said; 0: the most probable token each time."
    )
    top_p: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Only the most probable tokens that make up this share."
    )
    text: dict[str, Any] | None = Field(
        None, description=f"`format`: text, json_object or json_schema ({MOST_SCHEMA_CHARS:,} characters at most)."
    )
    stream: bool | None = Field(None, description="Server-sent events, as OpenAI sends them.")
    metadata: Metadata | None = Field(None, description="Comes back with the answer.")
    tools: Annotated[list[Any], Field(max_length=0)] | None = Field(
        None, description="None: functions are called in /v1/chat/completions."
    )
    tool_choice: Any = Field(None, description=_NO_EFFECT)
    parallel_tool_calls: bool | None = Field(None, description=_NO_EFFECT)
    previous_response_id: None = Field(None, description="null: no answer is stored.")
    store: bool | None = Field(None, description=_NO_EFFECT)
    truncation: Literal["auto", "disabled"] | None = Field(None, description="What is too long is refused.")
    user: str | None = Field(None, description=_NO_EFFECT)
    safety_identifier: str | None = Field(None, description=_NO_EFFECT)
    service_tier: str | None = Field(None, description=_NO_EFFECT)
    reasoning: dict[str, Any] | None = Field(None, description=_NO_EFFECT)
    include: list[str] | None = Field(None, description=_NO_EFFECT)
    prompt_cache_key: str | None = Field(None, description=_NO_EFFECT)
    stream_options: dict[str, Any] | None = Field(None, description=_NO_EFFECT)
    max_tool_calls: int | None = Field(None, description=_NO_EFFECT)
    background: Literal[False] | None = Field(None, description="false: an answer is written while you wait.")
    conversation: None = Field(None, description="null: no answer is stored.")


class ResponseObject(Object):
    """The answer: one message of the assistant."""

    object: Literal["response"] = "response"
    id: str = Field(description="`resp_…`.")
    created_at: int = Field(description="Unix time in seconds.")
    status: str = Field(description="completed, or incomplete where the most tokens were reached.")
    model: str = Field(description="The full name of the model that answered.")
    output: list[dict[str, Any]] = Field(description="The message.")
    incomplete_details: dict[str, str] | None = Field(None, description="Why it is incomplete.")
    usage: dict[str, Any] | None = Field(None, description="Tokens that were read, found computed, and written.")
    error: None = Field(None, description="null.")
    instructions: str | None = Field(None, description="As sent.")
    metadata: dict[str, str] = Field(description="As sent.")
    max_output_tokens: int | None = Field(None, description="As sent.")
    temperature: float = Field(description="As used.")
    top_p: float = Field(description="As used.")
    text: dict[str, Any] = Field(description="As used.")
    tools: list[Any] = Field(description="None.")
    tool_choice: str = Field(description="`auto`.")
    parallel_tool_calls: bool = Field(description="As OpenAI has it.")
    previous_response_id: None = Field(None, description="null.")
    store: bool = Field(description="false: nothing is stored.")
    truncation: str = Field(description="`disabled`.")
