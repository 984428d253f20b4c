"""Inputs of models that write, wherever they are written: read, laid out as tokens, answered one by one."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from models.artifacts.prompt import Prompt
from models.backbones.chat_template import ChatTokenizer
from models.datasets.examples import Conversation, Input
from models.datasets.formats.messages import read_calls
from models.datasets.limits import Limits
from models.datasets.problems import BadValue
from models.serving.errors import ContextLengthExceeded, InvalidInput, is_servers_fault
from models.serving.inputs import read_text
from models.serving.usage import Work
from models.serving.writing import Message, SamplingParams, WriteRequest, Writing
from models.settings import Settings

# Answers to `predict` are the same every time.
_GREEDY = SamplingParams(temperature=0.0)


@dataclass(slots=True, eq=False)
class Written:
    """Implements `models.serving.runner.Answered`: texts that were written to inputs."""

    inputs: Sequence[Input]
    outputs: list[str]
    tokens: int = 0
    compute_s: float = 0.0
    seconds: float = 0.0
    begun: int = 0  # inputs of which anything was read
    truncated: tuple[int, ...] = ()  # what is too long is refused
    rows: Mapping[int, Any] = field(default_factory=dict)

    @property
    def values(self) -> int:
        """Number of texts."""
        return len(self.outputs)

    def timings_ms(self) -> dict[str, float]:
        """Return how long it took; steps of many requests are not told apart."""
        spent = {"queue": 0.0, "tokenize": 0.0, "compute": self.compute_s, "total": self.seconds}
        return {name: seconds * 1e3 for name, seconds in spent.items()}


def read_conversation(value: Any, param: str, limits: Limits) -> Input:
    """Return a user's message or a conversation; raises InvalidInput."""
    messages = value.get("messages") if isinstance(value, dict) else value
    if not isinstance(messages, list):
        return read_text(value, param, limits)
    for at, message in enumerate(messages):
        if not isinstance(message, dict) or not {"role", "content"} <= set(message):
            reason = f"{param}[{at}] must be a message such as {{'role': 'user', 'content': '…'}}."
            raise InvalidInput(reason=reason, param=param)
        if not isinstance(message["role"], str):
            raise InvalidInput(reason=f"{param}[{at}].role must be a text, such as 'user'.", param=param)
        try:
            read_calls(message)
        except BadValue as error:
            raise InvalidInput(reason=f"{param}[{at}] {error.reason}. {error.mend}", param=param) from error
        read_text(message["content"], f"{param}[{at}].content", limits)
    if not messages:
        raise InvalidInput(reason=f"{param} holds no message.", param=param)
    try:
        return Conversation(orjson.dumps(messages).decode())
    except orjson.JSONEncodeError as error:
        raise InvalidInput(reason=f"{param} is nested too deeply.", param=param) from error


async def write_each(
    write: Callable[[WriteRequest], Awaitable[Writing]],
    inputs: Sequence[Input],
    settings: Settings,
    count: Callable[[Work], None] | None = None,
) -> Written:
    """Write an answer to each input, greedily. Raises what `write` does; leaves with its caller.

    `count` is called once with what was computed, however it ends, if it is not by the server's fault.
    """
    began_at = time.perf_counter()
    # As many at a time as are written at a time: a long list would fill the customer's queue.
    places = asyncio.Semaphore(min(settings.generation_sequences, settings.generation_queue_per_customer))
    written = Written(inputs, [""] * len(inputs))

    async def answer(index: int, messages: Sequence[Message]) -> None:
        async with places:
            writing = await write(WriteRequest(messages, _GREEDY))
            try:
                written.outputs[index] = await _whole(writing)
            finally:
                writing.close()
                if tokens := writing.read_tokens + writing.completion_tokens:
                    written.begun += 1
                    written.tokens += tokens
                    written.compute_s += writing.compute_s

    at_fault = False
    try:
        async with asyncio.TaskGroup() as tasks:
            for index, each in enumerate(inputs):
                tasks.create_task(answer(index, _messages(each)))
    except BaseExceptionGroup as failures:
        error = failures.exceptions[0]
        at_fault = is_servers_fault(error)
        raise error from None
    finally:
        if count is not None and written.begun and not at_fault:
            count(Work(written.begun, written.tokens, written.compute_s))
    written.seconds = time.perf_counter() - began_at
    return written


def prompt_tokens(tokenizer: ChatTokenizer, own: Prompt, request: WriteRequest, *, of_customer: bool) -> list[int]:
    """Return the tokens of a request, the version's own messages in front. Raises InvalidInput; blocks."""
    prompt = request.prompt
    if isinstance(prompt, str) and own.form == "chat" and of_customer:
        prompt = [{"role": "user", "content": prompt}]  # as it was taught
    if isinstance(prompt, str):
        tokens = tokenizer.encode_text(prompt)
    else:
        try:
            tokens = tokenizer.encode_chat(own.before(prompt), tools=request.tools, add_generation_prompt=True)
        except ValueError as error:
            raise InvalidInput(
                reason=f"These messages cannot be read: {str(error).rstrip('.')}.", param="messages"
            ) from error
    if not tokens:
        raise InvalidInput(reason="The prompt is empty.", param="prompt")
    return tokens


def longest_answer(request: WriteRequest, *, prompt: int, context: int, default: int) -> int:
    """Return how many tokens an answer may have beside `prompt` of them; raises ContextLengthExceeded."""
    room, asked = context - prompt, request.params.max_tokens
    if room < 1 or (asked is not None and asked > room):
        completion = asked or 1
        param = "prompt" if isinstance(request.prompt, str) else "messages"
        raise ContextLengthExceeded(
            most=context, asked=prompt + completion, prompt=prompt, completion=completion, param=param
        )
    return asked or min(room, default)


def _messages(value: Input) -> list[Message]:
    if isinstance(value, Conversation):
        messages: list[Message] = json.loads(value.messages)
        return messages
    return [{"role": "user", "content": str(value)}]


async def _whole(writing: Writing) -> str:
    parts: list[str] = []
    while (piece := await writing.next()) is not None:
        parts.append(piece.text)
    return "".join(parts)
