"""The rules for what customers may write on their objects: metadata and names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.identifiers import is_name
from models.services.errors import InvalidMetadata, InvalidName

MAX_PAIRS = 16
MAX_KEY_CHARS = 64
MAX_VALUE_CHARS = 512


def check_metadata(metadata: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the metadata as a plain dict; raises InvalidMetadata."""
    pairs = dict(metadata or {})
    if len(pairs) > MAX_PAIRS:
        raise InvalidMetadata(reason=f"{len(pairs)} pairs are too many.")
    for key, value in pairs.items():
        if not isinstance(key, str) or not 1 <= len(key) <= MAX_KEY_CHARS:
            raise InvalidMetadata(reason=f"the key '{str(key)[:80]}' is empty or too long.")
        if not isinstance(value, str) or len(value) > MAX_VALUE_CHARS:
            raise InvalidMetadata(reason=f"the value of '{key}' is not a text or too long.")
        if "\0" in key or "\0" in value:
            raise InvalidMetadata(reason=f"'{key!r}' holds a NUL character.")
    return pairs


def check_name(name: str, kind: str, *, param: str) -> str:
    """Return the name; raises InvalidName unless it can name a customer or a model."""
    if not is_name(name):
        raise InvalidName(name=name[:80], kind=kind, param=param)
    return name
