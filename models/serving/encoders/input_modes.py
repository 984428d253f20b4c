"""How a version reads its rows: whole texts (or pictures, sounds), pairs of texts, or texts word by word.

All of them leave in one batch. A pair is two texts of it; words are read off the hidden states where its tokens are; a
text whose version has a lexical part carries its terms along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from models.backbones import pairs, words
from models.backbones.backbone import Backbone
from models.backbones.pairs import PairRow
from models.backbones.text import TextBackbone
from models.backbones.words import WordRow
from models.learning.heads import ngrams
from models.learning.heads.ngrams import Ngrams

InputMode = Literal["whole", "terms", "pair", "words"]
_WORD = "word."


@dataclass(frozen=True, slots=True)
class NgramRow:
    """A whole text: what the base reads of it, and its terms."""

    ids: Any
    terms: Ngrams  # of this one text

    def __len__(self) -> int:
        return len(self.ids)


def input_mode_of(features: Sequence[str]) -> InputMode:
    """What the features of a head ask for. Raises ValueError if they do not go together."""
    found: set[InputMode] = set()
    for name in features:
        paired = bool(pairs.split_feature(name)[0])
        found.add("pair" if paired else "words" if words.is_word_feature(name) else "whole")
    if len(found) != 1:
        raise ValueError(f"features of different readings: {', '.join(features)}")
    return found.pop()


def computed(name: str) -> str:
    """The feature of a single text that the named one is derived from; `word.<depth>` stands for hidden states."""
    if words.is_word_feature(name):
        return _WORD + name.partition(".")[2]
    return pairs.split_feature(name)[1]


def tokenize(backbone: Backbone, inputs: Sequence[Any], readings: Sequence[InputMode]) -> list[Any]:
    """One row per input, each as its version reads it."""
    rows: list[Any] = [None] * len(inputs)
    for reading in dict.fromkeys(readings):
        chosen = [at for at, own in enumerate(readings) if own == reading]
        asked = [inputs[at] for at in chosen]
        if reading == "pair":
            found: Sequence[Any] = pairs.tokenize(backbone, asked)
        elif reading == "words":
            if not isinstance(backbone, TextBackbone):
                raise TypeError(f"words are read by a text base, not by {type(backbone).__name__}")
            found = words.tokenize(backbone, asked)
        elif reading == "terms":
            found = list(map(NgramRow, backbone.tokenize(asked), ngrams.read(asked).each()))
        else:
            found = backbone.tokenize(asked)
        for at, row in zip(chosen, found, strict=True):
            rows[at] = row
    return rows


def parts_of(row: Any) -> tuple[Any, ...]:
    """The texts of a row, as the base's own rows."""
    if isinstance(row, PairRow):
        return (row.first, row.second)
    return (row.ids,) if isinstance(row, WordRow | NgramRow) else (row,)


@dataclass(slots=True)
class Vectors:
    """What a pass has computed of some rows. Row b's parts begin at part `firsts[b]`."""

    rows: Sequence[Any]
    firsts: Sequence[int]
    pooled: dict[str, Tensor] = field(default_factory=dict)  # by name, one per part: (P, D)
    hidden: dict[str, Tensor] = field(default_factory=dict)  # by `word.<depth>`, of all tokens: (N, D)
    starts: Sequence[int] = ()  # of each part's first token in `hidden`

    def take(self, names: Sequence[str], chosen: Sequence[int]) -> tuple[Tensor, list[int] | None]:
        """The named features of some rows side by side, and how many vectors each row has (None: one each)."""
        reading = input_mode_of(names)
        firsts = [self.firsts[row] for row in chosen]
        if reading == "words":
            return self._take_words(names, chosen, firsts)
        device = next(iter(self.pooled.values())).device
        index = torch.tensor(firsts, device=device)
        if reading == "whole":
            return torch.cat([self.pooled[name][index] for name in names], dim=1), None
        both = torch.cat([index, index + 1])
        found = []
        for name in names:
            comparison, plain = pairs.split_feature(name)
            found.append(pairs.compare(comparison, self.pooled[plain][both], len(chosen)))
        return torch.cat(found, dim=1), None

    def _take_words(
        self, names: Sequence[str], chosen: Sequence[int], firsts: Sequence[int]
    ) -> tuple[Tensor, list[int]]:
        rows = [self.rows[row] for row in chosen]
        device = next(iter(self.hidden.values())).device
        where = words.locate(rows, [self.starts[first] for first in firsts], None, device)
        found = [words.pool(self.hidden[computed(name)], where, name.partition(".")[0]) for name in names]
        return torch.cat(found, dim=1), words.count_words(rows).tolist()
