"""Labels in one cell: at which sign they are parted, and labels that are several others written as one."""

from __future__ import annotations

import re
from collections.abc import Collection

_HASHED = re.compile(r"[^#\s](?:[^#]*[^#\s])?(?:#[^#\s](?:[^#]*[^#\s])?)+")


def separator_of(value: str) -> str:
    """Return the sign between the labels of a cell: `|`, `;`, `,`, or `#` between two words."""
    found = next((mark for mark in "|;," if mark in value), None)
    return found or ("#" if _HASHED.fullmatch(value) else ";")


def is_joined(label: str, labels: Collection[str]) -> bool:
    """Return whether a label is several: a list in brackets, or parts that all are labels by themselves."""
    if label.startswith(("['", '["')) and label.endswith("]"):
        return True
    mark = separator_of(label)
    return mark in label and all(part.strip() in labels for part in label.split(mark))
