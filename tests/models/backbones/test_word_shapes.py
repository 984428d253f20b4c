"""Capitals and digits, which an uncased tokeniser takes away."""

from __future__ import annotations

import numpy as np
import pytest

from models.backbones import word_shapes
from models.backbones.text import TextBackbone
from models.backbones.words import WordBackbone, word_spans


def _describe(text: str) -> word_shapes.Floats:
    return word_shapes.describe(text, word_spans(text))


def test_words_of_one_spelling_have_shapes_of_their_own() -> None:
    spelt = ["rose", "Rose", "ROSE", "roSe", "r0se", "R"]
    shapes = [_describe(f"a {word} b")[1] for word in spelt]
    assert len({shape.tobytes() for shape in shapes}) == len(spelt)
    assert len({_describe(f"a {word} b")[1].tobytes() for word in ("1984", "198", ";", "!", "#")}) == 5


def test_a_capital_says_less_at_the_beginning_and_among_capitals() -> None:
    begins, within = (_describe("Rose met Rose")[at] for at in (0, 2))
    assert not np.array_equal(begins, within)
    assert not np.array_equal(_describe("we met Rose today")[2], _describe("We Met Rose Today")[2])


def test_shapes_have_one_layout() -> None:
    """Published versions are fitted to it: another one needs another name."""
    text = "I paid Acme-Corp 250 EUR in 2024!"
    shapes = _describe(text)
    assert shapes.shape == (len(word_spans(text)), word_shapes.WIDTH)
    assert word_shapes.WIDTH == 28
    assert np.flatnonzero(shapes[2]).tolist() == [0, 15, 19, 21, 22, 24, 25, 26]  # Acme: touches what is after it
    assert _describe("").shape == (0, word_shapes.WIDTH)


@pytest.mark.parametrize("text", ["Anna met Bob", ""])
def test_the_base_gives_a_words_neighbours_shapes(backbone: TextBackbone, text: str) -> None:
    names = ["shape.0", "shape_before.0", "shape_after.0"]
    words = WordBackbone(backbone)
    own, before, after = np.split(words.encode([text, "x Y"], names), 3, axis=1)
    count = len(word_spans(text))
    assert len(own) == count + 2
    np.testing.assert_array_equal(own[:count], _describe(text))
    np.testing.assert_array_equal(before[1:count], own[: max(count - 1, 0)])
    np.testing.assert_array_equal(after[: max(count - 1, 0)], own[1:count])
    assert not before[0].any()
    assert not after[count + 1].any()
    with pytest.raises(ValueError, match="unknown feature"):
        words.parse_feature("shape.3")
