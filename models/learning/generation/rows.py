"""Rows of models that write, as tokens: what is read, and which of it is to be learned."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.artifacts.prompt import Message, Prompt
from models.backbones.writing import DecoderBackbone
from models.datasets.examples import Answer, Conversation

SYSTEM_ROLES = ("system", "developer")


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One row of T tokens. `asked` are those before the last answer; `cut` those that the base does not read."""

    tokens_T: NDArray[np.int64]
    learned_T: NDArray[np.bool_]  # whether a token is to be foretold from those before it
    asked: int
    cut: int = 0

    def __len__(self) -> int:
        return len(self.tokens_T)

    @property
    def learned(self) -> int:
        """How many tokens are to be foretold."""
        return int(self.learned_T.sum())


def encode(backbone: DecoderBackbone, conversation: Conversation, answer: Answer, prompt: Prompt) -> TokenRow:
    """Return a row as it stands behind a version's own messages."""
    if conversation.form == "text":
        return _text(backbone, answer.text)
    messages = [dict(message) for message in json.loads(conversation.messages)]
    tools = json.loads(conversation.tools) if conversation.tools else None
    before = prompt.before(messages)
    # Behind the system's message and the version's examples, of which nothing is learned.
    first = len(before) - sum(message["role"] not in SYSTEM_ROLES for message in messages)
    last: dict[str, Any] = {"role": "assistant", "content": answer.text}
    if answer.calls:
        last["tool_calls"] = json.loads(answer.calls)
    whole = [*before, last]
    tokens = backbone.encode_chat(whole, tools=tools, add_generation_prompt=False)
    tokens = tokens[: _end(backbone, tokens, 0) or len(tokens)]
    if tokens[-1] not in backbone.config.ends:
        tokens = [*tokens, *backbone.config.ends[:1]]
    learned_T = np.zeros(len(tokens), dtype=np.bool_)
    asked = _shared(tokens, backbone.encode_chat(before, tools=tools, add_generation_prompt=True))
    learned_T[asked:] = True
    for place in range(first, len(before)):
        message = before[place]
        if message["role"] == "assistant" and message.get("weight") != 0:
            start = _shared(tokens, backbone.encode_chat(before[:place], tools=tools, add_generation_prompt=True))
            said = backbone.encode_chat(before[: place + 1], tools=tools, add_generation_prompt=False)
            if _shared(tokens, said) == len(said):  # a template may show earlier answers in another way
                learned_T[start : _end(backbone, said, start) or len(said)] = True
    return _cut(backbone, tokens, learned_T, asked)


def asked_tokens(backbone: DecoderBackbone, conversation: Conversation, prompt: Prompt) -> list[int]:
    """Return the tokens after which an answer is to be written."""
    tools = json.loads(conversation.tools) if conversation.tools else None
    before = prompt.before(json.loads(conversation.messages))
    return backbone.encode_chat(before, tools=tools, add_generation_prompt=True)


def common_system(conversations: Sequence[Conversation]) -> str | None:
    """Return the system message that all rows share; None if they have none or several."""
    found: set[str | None] = set()
    for conversation in conversations:
        messages = json.loads(conversation.messages)
        first = messages[0] if messages else {}
        found.add(str(first["content"]) if first.get("role") in SYSTEM_ROLES else None)
        if len(found) > 1:
            return None
    return found.pop() if found else None


def as_example(conversation: Conversation, answer: Answer) -> tuple[Message, ...]:
    """Return a row as an example for a prompt: its messages without the system's, and the answer."""
    messages = [message for message in json.loads(conversation.messages) if message["role"] not in SYSTEM_ROLES]
    plain = [{key: value for key, value in message.items() if key != "weight"} for message in messages]
    last: dict[str, Any] = {"role": "assistant", "content": answer.text}
    if answer.calls:
        last["tool_calls"] = json.loads(answer.calls)
    return (*plain, last)


def shared_prefix(rows: Sequence[TokenRow]) -> int:
    """Return how many tokens all rows begin with; every row has more than those."""
    if not rows:
        return 0
    first, most = rows[0].tokens_T, min(len(row) for row in rows) - 1
    for row in rows[1:]:
        differs = np.flatnonzero(row.tokens_T[:most] != first[:most])
        most = int(differs[0]) if len(differs) else most
    # What a row learns it foretells itself: a prefix that is learned would count once for all rows.
    learned = [int(np.argmax(row.learned_T)) for row in rows if row.learned_T.any()]
    return max(0, min([most, *learned]))


def _text(backbone: DecoderBackbone, text: str) -> TokenRow:
    tokens = [*backbone.encode_text(text), *backbone.config.ends[:1]]
    learned_T = np.ones(len(tokens), dtype=np.bool_)
    learned_T[0] = False
    return _cut(backbone, tokens, learned_T, 1)


def _cut(backbone: DecoderBackbone, tokens: list[int], learned_T: NDArray[np.bool_], asked: int) -> TokenRow:
    most = backbone.max_tokens
    return TokenRow(np.array(tokens[:most], dtype=np.int64), learned_T[:most], asked, max(0, len(tokens) - most))


def _end(backbone: DecoderBackbone, tokens: Sequence[int], start: int) -> int | None:
    """Return the place behind the last token that ends an answer; None if there is none."""
    ends = backbone.config.ends
    return next((at + 1 for at in range(len(tokens) - 1, start - 1, -1) if tokens[at] in ends), None)


def _shared(left: Sequence[int], right: Sequence[int]) -> int:
    return next(
        (at for at, pair in enumerate(zip(left, right, strict=False)) if pair[0] != pair[1]),
        min(len(left), len(right)),
    )
