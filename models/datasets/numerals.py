"""Numbers in the text of a cell or a line."""

from __future__ import annotations


def parse(text: str) -> float:
    """Return the number that a text writes. Raises ValueError, also for `1_000`: that is Python's way, not a file's."""
    if "_" in text:
        raise ValueError(text)
    return float(text)
