"""Counts of long texts, in words: a token is no longer than a word, so that more words are more tokens at least.

A base's tokeniser is not known when a file is uploaded, and not needed to say that a text takes several windows, or
will not be read to its end.
"""

from __future__ import annotations

from models.datasets.examples import Example, TextPair

BORDERS = (64, 128, 256, 384, 512, 1_024, 2_048, 4_096, 8_192)
_SHOWN = 5


class WordCounts:
    """Counts texts with more words than each border, and remembers the first rows that they are in."""

    def __init__(self) -> None:
        self.above: dict[str, int] = {}
        self.rows: dict[str, list[int]] = {}

    def add(self, example: Example) -> None:
        """Count the texts of one example."""
        item = example.input
        texts = (item.first, item.second) if isinstance(item, TextPair) else (item,)
        for text in texts:
            if not isinstance(text, str) or len(text) < 2 * BORDERS[0]:
                continue
            words = len(text.split())
            for border in BORDERS:
                if words <= border:
                    break
                self.above[str(border)] = self.above.get(str(border), 0) + 1
                rows = self.rows.setdefault(str(border), [])
                if len(rows) < _SHOWN and example.row not in rows:
                    rows.append(example.row)


def count_longer(above: dict[str, int], tokens: int) -> int:
    """Return how many texts have more than so many tokens, two special ones included, at least."""
    return above.get(_border(tokens), 0)


def rows_longer(rows: dict[str, list[int]], tokens: int) -> list[int]:
    """Return the first rows with such texts."""
    return rows.get(_border(tokens), [])


def _border(tokens: int) -> str:
    return next((str(border) for border in BORDERS if border >= tokens - 2), "")
