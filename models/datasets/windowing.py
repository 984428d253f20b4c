"""How texts are read: in windows, up to a bound, if they are longer than a base's longest input; and in which words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# As far as a text is read. OpenAI's embeddings end at 8,192 tokens, too, so that who comes from there loses nothing;
# so many take 0.4 s on a core with AMX and 6 s on one with AVX2, by what a token costs in short texts.
MOST_TOKENS = 8_192
# Share of a window that the next one repeats where words are what is predicted: each word then has at least half as
# much text on both sides of it, unless the text ends there.
_OVERLAP = 4


# Where words are what is predicted: is all punctuation a word, or only what is at the edge of letters (`words.joined`)?
WordSplit = Literal["apart", "joined"]


@dataclass(frozen=True, slots=True)
class Windowing:
    """The way of reading texts. A version keeps the one that it was trained with."""

    tokens: int  # of a text that are read at most
    overlap: int  # tokens that neighbouring windows share where words are what is predicted; whole texts share none
    words: WordSplit = "apart"  # as in versions of before


def windowing_of(max_tokens: int) -> Windowing:
    """Return how texts of more than `max_tokens`, the base's longest input, are read today."""
    return Windowing(max(MOST_TOKENS, max_tokens), max_tokens // _OVERLAP)
