"""How much a file may hold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that validation enforces. Lengths are in characters."""

    max_rows: int = 2_000_000
    max_classes: int = 1_000
    max_text_chars: int = 100_000
    max_label_chars: int = 256


# For a file that was validated when it was uploaded, perhaps under other limits than today's.
UNLIMITED = Limits(max_rows=2**62, max_classes=2**62, max_text_chars=2**62, max_label_chars=2**62)
