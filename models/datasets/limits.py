"""Limits on what a file may hold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that validation enforces. Lengths of texts are in characters."""

    max_rows: int = 2_000_000
    max_classes: int = 1_000
    max_text_chars: int = 100_000
    max_label_chars: int = 256
    max_columns: int = 2_000
    # One picture or sound
    max_pixels: int = 40_000_000
    max_seconds: float = 60.0
    max_media_bytes: int = 64 * 2**20  # as it is encoded
    max_boxes: int = 2_000  # in one picture
    # All pictures or sounds of one file together: decoding them must end
    max_total_pixels: int = 8_000_000_000
    max_total_samples: int = 10_000_000_000
    # An archive
    max_entries: int = 100_000
    # Of unpacked to packed bytes: a table or a silent recording may well shrink a hundredfold, and what unpacks to
    # little may do what it likes.
    max_ratio: float = 100.0
    harmless_bytes: int = 64 * 2**20
    # What all rows of a file unpack to, texts and media
    max_unpacked_bytes: int = 2 * 2**30

    def unpacked_bytes(self, packed: int) -> float:
        """Return what the rows of a file of `packed` bytes may unpack to."""
        return min(self.max_unpacked_bytes, max(self.harmless_bytes, self.max_ratio * packed))


# For a file that was validated when it was uploaded, perhaps under other limits than today's.
UNLIMITED = Limits(
    max_rows=2**62,
    max_classes=2**62,
    max_text_chars=2**62,
    max_label_chars=2**62,
    max_columns=2**62,
    max_pixels=2**62,
    max_seconds=float("inf"),
    max_media_bytes=2**62,
    max_boxes=2**62,
    max_total_pixels=2**62,
    max_total_samples=2**62,
    max_entries=2**62,
    max_unpacked_bytes=2**62,
    max_ratio=float("inf"),
)
