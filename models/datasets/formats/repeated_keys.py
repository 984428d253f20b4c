"""Keys that an object of a JSON text has twice: of those a parser keeps the last value alone, without a word."""

from __future__ import annotations

import json
from typing import Any

import orjson


def find(text: str | bytes, value: Any) -> str | None:
    """Return a key that an object in the text has twice; None if none has. `value` is what was parsed of the text.

    Every pair has its colon: a text with more of them than what was parsed of it is parsed again. (It goes unseen where
    as many colons are written as escapes, `\\u003a`, as were dropped: no writer of JSON does that.)
    """
    colons = text.count(":") if isinstance(text, str) else text.count(b":")
    try:
        if (isinstance(value, dict) and colons == len(value)) or colons == orjson.dumps(value).count(b":"):
            return None
    except orjson.JSONEncodeError:  # nested deeper than it writes
        pass
    return _search(text)


def _search(text: str | bytes) -> str | None:
    """Parse again and look at every pair, which takes several times as long."""
    found: list[str] = []

    def check(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                found.append(key)
            seen.add(key)

    try:
        json.loads(text, object_pairs_hook=check, parse_int=str, parse_float=str)
    except RecursionError:
        return None
    return found[0] if found else None
