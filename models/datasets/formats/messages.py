"""Messages as other tools write them, in OpenAI's form; and whether what they hold has its shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.datasets.problems import BadValue

_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant"}  # ShareGPT's
_CALLS_MEND = 'Write [{"id": "…", "type": "function", "function": {"name": "…", "arguments": "{…}"}}, …].'


def plain_message(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message of ShareGPT's as one of OpenAI's, and OpenAI's earlier `function_call` as a call of a tool."""
    if "from" not in message or "role" in message:
        if message.get("function_call") and not message.get("tool_calls"):
            return {**message, "tool_calls": as_tools([message["function_call"]])}
        return message
    role = str(message["from"])
    return {"role": _ROLES.get(role, role), "content": message.get("value"), "weight": message.get("weight")}


def as_tools(functions: Any) -> Any:
    """Return a list of OpenAI's earlier `functions`, or of calls of them, as tools; what is no list as it is."""
    if not isinstance(functions, list):
        return functions
    return [{"type": "function", "function": function} for function in functions]


def read_calls(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the calls of tools in a message, [] if it has none. Raises BadValue unless they are objects."""
    calls = message.get("tool_calls") or []
    objects = isinstance(calls, list) and all(isinstance(call, Mapping) for call in calls)
    if not objects or not all(isinstance(function_of(call), Mapping) for call in calls):
        raise BadValue("has tool_calls that are no list of calls", _CALLS_MEND)
    return [dict(call) for call in calls]


def function_of(call: Mapping[str, Any]) -> Any:
    """Return what a call or a tool holds of its function: some writers leave out the object around it."""
    return call.get("function", call)
