"""Chat JSONL, OpenAI's (`messages`) and ShareGPT's (`conversations`): a user message is the text, its answer the label.

Of a conversation the last answer is taken whose `weight` is not 0. The text is the user message before it: what a
classifier is asked with, one message at a time. Everything else in a row is not read, and the row says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from models.datasets.formats.encoding import check_encoding, decode_head
from models.datasets.formats.format import Format, Row
from models.datasets.formats.json_lines import read_objects
from models.datasets.formats.messages import as_tools, plain_message
from models.datasets.problems import Problem

# The virtual columns of a chat file: each row's two ends of the conversation.
COLUMNS = ("text", "label")
# Asked for beside those: True, and nothing else in the row, where a conversation ends in a call of a tool.
CALL = "call"

_KEYS = ("messages", "conversations")
_LONG_LINE = re.compile(r'"(messages|conversations)"\s*:\s*\[\s*\{')
_ANSWERS = "Add the assistant's message: the label."


class _Unusable(ValueError):
    """A conversation that makes no row. Its arguments: reason, mend."""


def joined(parts: Sequence[str]) -> str:
    """Return the text of a message whose content comes in parts, in training and in requests alike.

    A line break goes between two parts unless there is white space already: words of two parts are two words.
    """
    text = ""
    for part in parts:
        apart = not text or text[-1].isspace() or part[:1].isspace()
        text += part if apart else f"\n{part}"
    return text


def recognise(head: bytes) -> bool:
    """Return whether the first object has messages; one longer than the head is recognised by their key."""
    first = decode_head(head).strip().split("\n", 1)[0]
    try:
        value = orjson.loads(first)
    except orjson.JSONDecodeError:
        return first.startswith("{") and _LONG_LINE.search(first) is not None
    return isinstance(value, dict) and any(isinstance(value.get(key), list) for key in _KEYS)


def read_columns(path: Path) -> list[str]:  # noqa: ARG001  (a Format's signature)
    """Return the virtual columns `text` and `label`."""
    return list(COLUMNS)


def read_rows(path: Path, columns: dict[str, str]) -> Iterator[Row | Problem]:
    """Yield rows in order: the question and the answer of each conversation."""
    for row in read_objects(path):
        if isinstance(row, Problem):
            yield row
            continue
        if "messages" in columns:
            yield _whole(row, columns["messages"])
            continue
        key = next((key for key in _KEYS if key in row.values), _KEYS[0])
        if CALL in columns and _ends_in_call(row.values.get(key)):
            yield Row(row.number, row.line, {CALL: True})
            continue
        try:
            text, label, unused = _ends(row.values.get(key))
        except _Unusable as error:
            reason, mend = error.args
            yield Problem(row.number, row.line, key, reason, mend)
            continue
        ends = {"text": text, "label": label}
        others = [f"key '{name[:40]}'" for name, value in row.values.items() if name != key and value is not None]
        yield Row(
            row.number, row.line, {name: ends.get(own) for name, own in columns.items()}, unused=(*unused, *others)
        )


def _whole(row: Row, own: str) -> Row:
    """Return a row with the whole conversation, for a model that writes."""
    key = next((key for key in _KEYS if key in row.values), own)
    values = dict(row.values)
    if not values.get("tools"):
        values["tools"] = as_tools(values.pop("functions", None))
    kept = {"messages": values.get(key), "tools": values["tools"]}
    others = [name for name in values if name not in (key, "tools", "parallel_tool_calls")]
    return Row(row.number, row.line, kept, unused=tuple(f"key '{name[:40]}'" for name in others))


def _ends(messages: Any) -> tuple[str, str, list[str]]:
    """Return text, label, and what else a conversation holds."""
    if not isinstance(messages, list) or not messages:
        raise _Unusable("is not a list of messages", 'Write {"messages": [{"role": "user", …}, …]}.')
    if not all(isinstance(message, dict) for message in messages):
        raise _Unusable("holds something else than objects", 'Every message is {"role": …, "content": …}.')
    messages = [plain_message(message) for message in messages]
    asked: int | None = None
    chosen: tuple[int, int] | None = None
    weighed_out = False
    for place, message in enumerate(messages):
        if message.get("role") == "user":
            asked = place
        elif message.get("role") == "assistant" and asked is not None and not _is_call(message):
            if _weight(message):
                chosen = asked, place
            else:
                weighed_out = True
    if chosen is None:
        if weighed_out:
            raise _Unusable("has only answers of weight 0, which are not learned", "Give the label weight 1.")
        raise _Unusable("has no user message with an assistant's answer after it", _ANSWERS)
    unused = {_name(message, place, chosen) for place, message in enumerate(messages) if place not in chosen}
    return _content(messages[chosen[0]]), _content(messages[chosen[1]]), sorted(unused)


def _ends_in_call(messages: Any) -> bool:
    """Return whether the last answer that is learned calls a tool: no label can stand for that."""
    for message in reversed(messages if isinstance(messages, list) else []):
        if isinstance(message, dict) and message.get("role") == "assistant" and message.get("weight") != 0:
            return bool(plain_message(message).get("tool_calls"))
    return False


def _is_call(message: dict[str, Any]) -> bool:
    """Return whether an assistant's message calls a tool instead of answering."""
    return bool(message.get("tool_calls")) and not message.get("content")


def _weight(message: dict[str, Any]) -> bool:
    weight = message.get("weight")
    if weight is None or (weight in (0, 1) and isinstance(weight, int | float)):
        return weight is None or bool(weight)
    raise _Unusable(f"has a message with weight {weight!r}", "A weight is 0 (not learned) or 1.")


def _name(message: dict[str, Any], place: int, chosen: tuple[int, int]) -> str:
    role = message.get("role")
    if role in ("system", "developer"):
        return "system messages"
    if role == "assistant" and message.get("weight") == 0:
        return "answers of weight 0"
    if role in ("tool", "function") or _is_call(message):
        return "calls of tools"
    return "earlier turns" if place < chosen[1] else "later turns"


def _content(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [
            part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in content
        ]
        texts = [part for part in parts if isinstance(part, str)]
        if parts and len(texts) == len(parts):
            return joined(texts)
        raise _Unusable("has content that is not text", "Only text parts can be used; remove pictures and sound.")
    raise _Unusable(f"has a message of role '{message.get('role')}' without text", "Write its text as `content`.")


CHAT = Format("chat", recognise, check_encoding, read_columns, read_rows, free_answers=True)
