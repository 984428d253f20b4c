"""Messages as other tools write them, in OpenAI's form."""

from __future__ import annotations

from typing import Any

_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant"}  # ShareGPT's


def plain_message(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message of ShareGPT's as one of OpenAI's."""
    if "from" not in message or "role" in message:
        return message
    role = str(message["from"])
    return {"role": _ROLES.get(role, role), "content": message.get("value"), "weight": message.get("weight")}
