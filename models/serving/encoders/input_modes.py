"""Input modes: a version reads whole texts (or pictures, sounds), pairs of texts, or texts word by word.

All of them leave in one batch. A pair is two texts of it, a long text several windows; words are pooled from the hidden
states of their tokens; a text whose version has an n-gram head carries its n-grams along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.backbones import feature_names, pairs, windows, words
from models.backbones.backbone import Backbone
from models.backbones.pairs import PairRow
from models.backbones.text import TextBackbone
from models.backbones.text_tokenizer import TextRow
from models.backbones.windows import RowParts
from models.backbones.words import WordRow
from models.datasets.windowing import Windowing
from models.learning.heads import ngrams
from models.learning.heads.ngrams import Ngrams

InputMode = Literal["whole", "ngrams", "pair", "words"]


@dataclass(frozen=True, slots=True)
class NgramRow:
    """A whole text: what the base reads of it, and its n-grams."""

    tokens: TextRow
    ngrams: Ngrams  # of this one text

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True, slots=True)
class Piece:
    """Some windows of a row that leave in a pass of their own, see `pieces`."""

    number: int
    parts: tuple[Any, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))


def input_mode_of(features: Sequence[str]) -> InputMode:
    """Return the mode in which features are read. Raises ValueError if they do not go together."""
    found: set[InputMode] = set()
    for feature in map(feature_names.parse, features):
        found.add("pair" if feature.pair else "words" if feature.per_word else "whole")
    if len(found) != 1:
        raise ValueError(f"features of different input modes: {', '.join(features)}")
    return found.pop()


def computed(name: str) -> str:
    """Return what is pooled of every part for the named feature, before scaling; of words, their `hidden_states`."""
    feature = feature_names.parse(name)
    return hidden_states(feature.depth) if feature.per_word else feature.plain


def hidden_states(depth: int) -> str:
    """Return the name of all tokens' hidden states at a depth, from which features of words are pooled."""
    return f"word.{depth}"


def tokenize(
    backbone: Backbone,
    inputs: Sequence[Any],
    modes: Sequence[InputMode],
    windowings: Sequence[Windowing | None] | None = None,
) -> list[Any]:
    """Return one row per input, each in its version's mode and windows; without any, of long texts the beginnings."""
    rows: list[Any] = [None] * len(inputs)
    ways = list(zip(modes, windowings or [None] * len(inputs), strict=True))
    for way in dict.fromkeys(ways):
        chosen = [at for at, own in enumerate(ways) if own == way]
        found = _tokenize(backbone, [inputs[at] for at in chosen], *way)
        for at, row in zip(chosen, found, strict=True):
            rows[at] = row
    return rows


def _tokenize(backbone: Backbone, inputs: Sequence[Any], mode: InputMode, windowing: Windowing | None) -> Sequence[Any]:
    base: Backbone = backbone.with_windowing(windowing)
    if mode == "pair":
        return pairs.tokenize(base, inputs)
    if mode == "words":
        if not isinstance(base, TextBackbone):
            raise TypeError(f"words are read by a text base, not by {type(base).__name__}")
        return words.tokenize(base, inputs)
    if mode == "ngrams":
        found = ngrams.read(inputs, most=ngrams.most_characters(windowing))
        return list(map(NgramRow, base.tokenize(inputs), found.each()))
    return base.tokenize(inputs)


def is_cut(backbone: Backbone, item: Any, row: Any) -> bool:
    """Return whether an input, or one of its texts, is not read to its end."""
    if not isinstance(backbone, TextBackbone):
        return False
    texts = (item.first, item.second) if isinstance(row, PairRow) else (item,)
    return bool(backbone.cut_tokens([str(text) for text in texts], texts_of(row)).any())


def texts_of(row: Any) -> tuple[Any, ...]:
    """Return the texts of a row, each as the base's own row."""
    if isinstance(row, PairRow):
        return (row.first, row.second)
    return (row.tokens,) if isinstance(row, WordRow | NgramRow) else (row,)


def parts_of(row: Any) -> tuple[Any, ...]:
    """Return the windows of all texts of a row, or of a piece of it."""
    if isinstance(row, Piece):
        return row.parts
    return tuple(part for text in texts_of(row) for part in windows.parts_of(text))


@dataclass(slots=True)
class Vectors:
    """The vectors that a pass has computed for some rows. Row b's parts begin at part `firsts[b]`."""

    rows: Sequence[Any]
    firsts: Sequence[int]
    parts: Sequence[Any]
    pooled: dict[str, Tensor] = field(default_factory=dict)  # by name, one per part: (P, D)
    hidden: dict[str, Tensor] = field(default_factory=dict)  # by `word.<depth>`, of all tokens: (N, D)
    starts: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))  # of the parts in `hidden`

    def of_piece(self, names: Sequence[str], row: int) -> Vectors:
        """Return what was computed for the named features of one row's parts, without the other rows'."""
        parts, first = parts_of(self.rows[row]), self.firsts[row]
        found = Vectors([self.rows[row]], [0], parts)
        for name in map(computed, names):
            if name in self.pooled:
                found.pooled[name] = self.pooled[name][first : first + len(parts)].clone()
            else:
                places = [np.arange(len(part)) + self.starts[first + at] for at, part in enumerate(parts)]
                hidden_ND = self.hidden[name]
                found.hidden[name] = hidden_ND[torch.from_numpy(np.concatenate(places)).to(hidden_ND.device)]
        return found

    def take(self, names: Sequence[str], chosen: Sequence[int]) -> tuple[Tensor, list[int] | None]:
        """Return the named features of some rows side by side, and how many vectors each row has (None: one each)."""
        mode = input_mode_of(names)
        if mode == "words":
            return self._take_words(names, chosen)
        parts, layout = self._layout(chosen)
        device = next(iter(self.pooled.values())).device
        index = torch.tensor(parts, device=device)
        found = []
        for feature in map(feature_names.parse, names):
            # First texts, then second texts, if they are pairs.
            vectors = windows.pool(partial(self._take_parts, feature.plain, index), feature.single_kind, layout)
            found.append(pairs.compare(feature.pair, vectors, len(chosen)) if mode == "pair" else vectors)
        return torch.cat(found, dim=1), None

    def _take_parts(self, plain: str, index: Tensor, pooling: str) -> Tensor:  # noqa: ARG002
        return self.pooled[plain][index]

    def _layout(self, chosen: Sequence[int]) -> tuple[list[int], RowParts | None]:
        """Return the parts of the rows' first texts, then of their second ones; with more than one each, how many."""
        by_text: list[list[range]] = []
        for row in chosen:
            at = self.firsts[row]
            spans = []
            for text in texts_of(self.rows[row]):
                spans.append(range(at, at + len(windows.parts_of(text))))
                at = spans[-1].stop
            by_text.append(spans)
        spans = [own[at] for at in range(len(by_text[0])) for own in by_text]
        parts = [part for span in spans for part in span]
        if len(parts) == len(spans):
            return parts, None
        return parts, RowParts(tuple(map(len, spans)), tuple(len(self.parts[part]) for part in parts))

    def _take_words(self, names: Sequence[str], chosen: Sequence[int]) -> tuple[Tensor, list[int]]:
        rows = [self.rows[row] for row in chosen]
        device = next(iter(self.hidden.values())).device
        parts = [self.firsts[row] + at for row in chosen for at in range(len(parts_of(self.rows[row])))]
        where = words.locate(rows, self.starts[parts], None, device)
        found = [words.pool(self.hidden[computed(name)], where, feature_names.parse(name).kind) for name in names]
        return torch.cat(found, dim=1), words.count_words(rows).tolist()
