"""Calls of tools in what a model wrote: JSON between `<tool_call>` marks, as Hermes and its like write them."""

from __future__ import annotations

import json
import re
from typing import Any

from models.identifiers import new_id

_CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*(?:</tool_call>|$)", re.DOTALL)


def split(text: str) -> tuple[str | None, list[dict[str, Any]]]:
    """Return the text without its calls, None if nothing is left, and the calls in OpenAI's form."""
    calls: list[dict[str, Any]] = []
    rest: list[str] = []
    end = 0
    for found in _CALL.finditer(text):
        if (call := _parse(found[1])) is None:
            continue
        calls.append(call)
        rest.append(text[end : found.start()])
        end = found.end()
    left = "".join([*rest, text[end:]]).strip() if calls else text
    return left or None, calls


def _parse(spelt: str) -> dict[str, Any] | None:
    try:
        call = json.loads(spelt)
        arguments = call.get("arguments", call.get("parameters", {}))
        function = {
            "name": str(call["name"]),
            "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False),
        }
    except (ValueError, KeyError, AttributeError):
        return None
    return {"id": new_id("call_"), "type": "function", "function": function}
