"""OpenAI's chat JSONL: the last user message that has an answer is the text, the assistant's answer the label."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from models.datasets.formats.encoding import check_encoding, decode_head
from models.datasets.formats.format import Format, Row
from models.datasets.formats.json_lines import read_objects
from models.datasets.problems import Problem

# The virtual columns of a chat file: each row's two ends of the conversation.
COLUMNS = ("text", "label")


class _Unusable(ValueError):
    """reason, mend."""


def recognise(head: bytes) -> bool:
    """The first object has `messages`; one whose line is longer than the head is recognised by its first key."""
    first = decode_head(head).strip().split("\n", 1)[0]
    try:
        value = orjson.loads(first)
    except orjson.JSONDecodeError:
        return first.replace(" ", "").startswith('{"messages":[')
    return isinstance(value, dict) and isinstance(value.get("messages"), list)


def read_columns(path: Path) -> list[str]:  # noqa: ARG001  (a Format's signature)
    """The virtual columns `text` and `label`."""
    return list(COLUMNS)


def read_rows(path: Path, columns: dict[str, str]) -> Iterator[Row | Problem]:
    """Rows in order: the question and the answer of each conversation."""
    for row in read_objects(path):
        if isinstance(row, Problem):
            yield row
            continue
        try:
            ends = dict(zip(COLUMNS, _ends(row.values.get("messages")), strict=True))
        except _Unusable as error:
            reason, mend = error.args
            yield Problem(row.number, row.line, "messages", reason, mend)
            continue
        yield Row(row.number, row.line, {name: ends[own] for name, own in columns.items()})


def _ends(messages: Any) -> tuple[str, str]:
    if not isinstance(messages, list) or not messages:
        raise _Unusable("is not a list of messages", 'Write {"messages": [{"role": "user", …}, …]}.')
    if not all(isinstance(message, dict) for message in messages):
        raise _Unusable("holds something else than objects", 'Every message is {"role": …, "content": …}.')
    for place in range(len(messages) - 1, 0, -1):
        if messages[place].get("role") == "assistant" and messages[place - 1].get("role") == "user":
            return _content(messages[place - 1]), _content(messages[place])
    raise _Unusable(
        "has no user message with an assistant's answer after it", "Add the assistant's message: the label."
    )


def _content(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [
            part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in content
        ]
        if parts and all(isinstance(part, str) for part in parts):
            return "".join(part for part in parts if part)
        raise _Unusable("has content that is not text", "Only text parts can be used; remove pictures and sound.")
    raise _Unusable(f"has a message of role '{message.get('role')}' without text", "Write its text as `content`.")


CHAT = Format("chat", recognise, check_encoding, read_columns, read_rows, free_answers=True)
