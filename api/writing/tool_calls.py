"""Calls of tools in what a model wrote: JSON between `<tool_call>` marks, as Hermes and its like write them.

Where a request asks for a call, the answer is that JSON alone, held to the schema of the functions' parameters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.errors import InvalidBody
from api.writing.requests import require_shallow
from models.identifiers import new_id

_ANY_ARGUMENTS: Mapping[str, Any] = {"type": "object"}
_CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*(?:</tool_call>|$)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The functions that a request offers, and whether the answer has to be a call."""

    offered: Sequence[Mapping[str, Any]] | None = None
    forced: Mapping[str, Any] | None = None  # JSON schema of the call that the answer is
    named: bool = False  # the request names the function

    @property
    def possible(self) -> bool:
        """Whether an answer may be a call: then it is known at its end."""
        return bool(self.offered)

    def split(self, text: str) -> tuple[str | None, list[dict[str, Any]]]:
        """Return an answer's text without its calls, None if nothing is left, and the calls in OpenAI's form."""
        if self.forced is None:
            return split(text)
        call = _parse(text)  # an answer that `max_tokens` cut is none
        return (text, []) if call is None else (None, [call])

    def finish_reason(self, reason: str | None, calls: Sequence[object]) -> str | None:
        """Return why an answer ended: as OpenAI has it, a call that the request named ends with `stop`."""
        return "tool_calls" if calls and not self.named else reason


def tool_use(tools: Any, choice: Any) -> ToolUse:
    """Return what `tools` and `tool_choice` ask for. Raises InvalidBody."""
    if choice not in (None, "none", "auto") and not tools:
        raise InvalidBody(reason="tool_choice asks for a call, and tools offers no function.", param="tool_choice")
    if not tools or choice == "none":
        return ToolUse()
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise InvalidBody(reason="tools is a list of objects.", param="tools")
    require_shallow(tools, param="tools")
    if choice in (None, "auto"):
        return ToolUse(tools)
    parameters = {str(one["name"]): one.get("parameters") for one in map(_function_of, tools)}
    if choice == "required":
        calls = [_schema_of_call(*one, place=f"/anyOf/{at}") for at, one in enumerate(parameters.items())]
        return ToolUse(tools, {"anyOf": calls})
    function = choice.get("function") if isinstance(choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        reason = 'tool_choice is none, auto, required or {"type": "function", "function": {"name": "…"}}.'
        raise InvalidBody(reason=reason, param="tool_choice")
    if name not in parameters:
        known = ", ".join(parameters)
        raise InvalidBody(reason=f"tool_choice names '{name[:80]}'; tools has {known[:300]}.", param="tool_choice")
    return ToolUse(tools, _schema_of_call(name, parameters[name]), named=True)


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


def _function_of(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    function = tool.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        reason = 'A tool is {"type": "function", "function": {"name": "…", "parameters": {…}}}.'
        raise InvalidBody(reason=reason, param="tools")
    if not isinstance(function.get("parameters", {}), dict | None):
        raise InvalidBody(reason=f"The parameters of '{function['name'][:80]}' are a JSON schema.", param="tools")
    return function


def _schema_of_call(name: str, parameters: Mapping[str, Any] | None, *, place: str = "") -> dict[str, Any]:
    """Return the schema of a call, which itself lies at `place` of another one."""
    arguments = _moved(parameters or _ANY_ARGUMENTS, f"{place}/properties/arguments")
    return {
        "type": "object",
        "properties": {"name": {"const": name}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _moved(schema: Any, place: str) -> Any:
    """Return a schema as it is at another place: its references begin at the root of the whole one."""
    if isinstance(schema, list):
        return [_moved(each, place) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    found = {key: _moved(value, place) for key, value in schema.items()}
    reference = found.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        found["$ref"] = f"#{place}{reference[1:]}"
    return found


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
