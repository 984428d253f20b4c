"""The shape of words: capitals, digits, punctuation, length. What an uncased tokeniser takes away, for names and codes.

On wnut17 (rare names in tweets, an uncased base) a head that sees the shapes of a word and its neighbours finds 2 to 3
points of entity F1 more than one that does not. A layout is never changed: versions are fitted to it. A new one gets a
name of its own in `feature_names.WORD_SHAPES`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_SENTENCE_ENDS = ".!?:"
_LENGTHS = (2, 4, 7)  # characters up to which a word is short, middling, long


def _letters(word: str) -> str:
    return "".join(character for character in word if character.isalpha())


# Of a word by itself. The order is the layout.
_FLAGS: tuple[Callable[[str], bool], ...] = (
    lambda word: word[0].isupper(),
    lambda word: len(word) > 1 and _letters(word).isupper(),
    lambda word: len(word) == 1 and word.isupper(),
    lambda word: not word.islower() and not word.isupper() and any(map(str.isupper, word[1:])),  # iPhone, McDonald
    lambda word: word.islower(),
    lambda word: any(map(str.isdigit, word)) and any(map(str.isalpha, word)),
    str.isdigit,
    lambda word: word.isdigit() and len(word) == 4,  # a year, a code
    lambda word: not any(map(str.isalnum, word)),
    lambda word: word[0] == "#",
    lambda word: word[0] == "@",
    lambda word: word[0] in ".!?",
    lambda word: word[0] in "'\"“”‘’`",
    lambda word: word[0] in "-–/&",
    lambda word: len(word) <= _LENGTHS[0],
    lambda word: _LENGTHS[0] < len(word) <= _LENGTHS[1],
    lambda word: _LENGTHS[1] < len(word) <= _LENGTHS[2],
    lambda word: len(word) > _LENGTHS[2],
)
_CAPITAL, _CAPITALS = 0, 1  # places in `_FLAGS`
_IN_ROW = 10  # of a word among its row's, see `describe`
WIDTH = len(_FLAGS) + _IN_ROW


def describe(text: str, spans_W2: Ints) -> Floats:
    """Return the shape of each word, (W, WIDTH): `_FLAGS`, then what it is among the row's other words.

    A capital says little at the beginning of a sentence, and nothing where all words have one.
    """
    words = [text[start:end] for start, end in spans_W2.tolist()]
    if not words:
        return np.zeros((0, WIDTH), dtype=np.float32)
    known: dict[str, list[bool]] = {}
    flags_WA = np.array([known.setdefault(word, _flags(word)) for word in words], dtype=np.float32)
    with_letters_W = np.array([any(map(str.isalpha, word)) for word in words])
    capital_W, capitals_W = flags_WA[:, _CAPITAL], flags_WA[:, _CAPITALS]
    share, whole_share = (_mean(flag_W[with_letters_W]) for flag_W in (capital_W, capitals_W))
    touches_W = (spans_W2[1:, 0] == spans_W2[:-1, 1]).astype(np.float32)
    first_W = np.array([True, *(word in _SENTENCE_ENDS for word in words[:-1])], dtype=np.float32)
    in_row_WR = np.stack(
        [
            np.concatenate([[0], touches_W]),  # no space before it
            np.concatenate([touches_W, [0]]),  # nor after it
            first_W,
            np.full(len(words), share),
            np.full(len(words), whole_share),
            capital_W * first_W,
            capital_W * (1 - first_W),
            capital_W * share,
            capital_W * (1 - share),
            capitals_W * (1 - whole_share),
        ],
        axis=1,
    )
    return np.concatenate([flags_WA, in_row_WR.astype(np.float32)], axis=1)


def _flags(word: str) -> list[bool]:
    return [flag(word) for flag in _FLAGS]


def _mean(values: Sequence[float] | Floats) -> float:
    return float(np.mean(values)) if len(values) else 0.0
