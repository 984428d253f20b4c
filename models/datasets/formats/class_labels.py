"""Names of labels that Parquet holds as numbers: Hugging Face's `datasets` keeps them in the schema's metadata.

A column of the feature type `ClassLabel`, or a list of such, is written as int64; -1 stands for no label.
"""

from __future__ import annotations

import json
from typing import Any


def names_of(metadata: dict[bytes, bytes] | None) -> dict[str, tuple[str, ...]]:
    """Return the names of each column's numbers, from an Arrow schema's metadata; empty for other writers."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return {str(name): names for name, feature in features.items() if (names := _names(feature))}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def named(value: Any, names: tuple[str, ...]) -> Any:
    """Replace a number, or each of a list, by its name; what has no name stays as it is."""
    if isinstance(value, list):
        return [named(item, names) for item in value]
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if value == -1:
        return None
    return names[value] if 0 <= value < len(names) else value


def _names(feature: Any) -> tuple[str, ...]:
    """Return the names of a ClassLabel, alone or within a list: `[…]`, Sequence, List, LargeList."""
    if isinstance(feature, list):
        return _names(feature[0]) if feature else ()
    if not isinstance(feature, dict):
        return ()
    if feature.get("_type") == "ClassLabel":
        return tuple(str(name) for name in feature.get("names") or ())
    return _names(feature["feature"]) if "feature" in feature else ()
