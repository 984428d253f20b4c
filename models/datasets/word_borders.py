"""Where words begin and end: at white space, with punctuation apart and, in scripts without spaces, every character."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Literal

# Scripts without spaces: kana, ideographs and their extensions, Thai, Lao, Khmer, Myanmar.
_UNSPACED = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF))
_FIRST_PLANE = 0x20000  # from here on: ideographs of the supplementary plane

# What a character is to words: between them, one by itself, or part of the one that its neighbours make.
CharacterKind = Literal["space", "alone", "joined"]


@lru_cache(maxsize=65_536)
def kind_of(character: str) -> CharacterKind:
    """Return what a character is to words."""
    if character.isspace():
        return "space"
    if is_unspaced(ord(character)):
        return "alone"
    return "alone" if unicodedata.category(character)[0] in "PS" else "joined"


def is_unspaced(code: int) -> bool:
    """Return whether a code point is of a script without spaces."""
    return code >= _FIRST_PLANE or any(first <= code <= last for first, last in _UNSPACED)


def is_inside_word(text: str, place: int) -> bool:
    """Return whether a word has both the character before `place` and the one at it, however finely words are cut."""
    return 0 < place < len(text) and kind_of(text[place - 1]) == "joined" == kind_of(text[place])
