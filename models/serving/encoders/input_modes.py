"""Input modes: a version reads whole texts (or pictures, sounds), pairs of texts, or texts word by word.

All of them leave in one batch. A pair is two texts of it; words are pooled from the hidden states of their tokens; a
text whose version has an n-gram head carries its n-grams along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from models.backbones import feature_names, pairs, words
from models.backbones.backbone import Backbone
from models.backbones.pairs import PairRow
from models.backbones.text import TextBackbone
from models.backbones.words import WordRow
from models.learning.heads import ngrams
from models.learning.heads.ngrams import Ngrams

InputMode = Literal["whole", "ngrams", "pair", "words"]


@dataclass(frozen=True, slots=True)
class NgramRow:
    """A whole text: what the base reads of it, and its n-grams."""

    ids: Any
    ngrams: Ngrams  # of this one text

    def __len__(self) -> int:
        return len(self.ids)


def input_mode_of(features: Sequence[str]) -> InputMode:
    """Return the mode in which features are read. Raises ValueError if they do not go together."""
    found: set[InputMode] = set()
    for feature in map(feature_names.parse, features):
        found.add("pair" if feature.pair else "words" if feature.per_word else "whole")
    if len(found) != 1:
        raise ValueError(f"features of different input modes: {', '.join(features)}")
    return found.pop()


def computed(name: str) -> str:
    """Return the feature of a single text from which the named one is derived; of words, their `hidden_states`."""
    feature = feature_names.parse(name)
    return hidden_states(feature.depth) if feature.per_word else feature.single


def hidden_states(depth: int) -> str:
    """Return the name of all tokens' hidden states at a depth, from which features of words are pooled."""
    return f"word.{depth}"


def tokenize(backbone: Backbone, inputs: Sequence[Any], modes: Sequence[InputMode]) -> list[Any]:
    """Return one row per input, each in its version's mode."""
    rows: list[Any] = [None] * len(inputs)
    for mode in dict.fromkeys(modes):
        chosen = [at for at, own in enumerate(modes) if own == mode]
        asked = [inputs[at] for at in chosen]
        if mode == "pair":
            found: Sequence[Any] = pairs.tokenize(backbone, asked)
        elif mode == "words":
            if not isinstance(backbone, TextBackbone):
                raise TypeError(f"words are read by a text base, not by {type(backbone).__name__}")
            found = words.tokenize(backbone, asked)
        elif mode == "ngrams":
            found = list(map(NgramRow, backbone.tokenize(asked), ngrams.read(asked).each()))
        else:
            found = backbone.tokenize(asked)
        for at, row in zip(chosen, found, strict=True):
            rows[at] = row
    return rows


def is_cut(backbone: Backbone, item: Any, row: Any) -> bool:
    """Return whether the base reads only the beginning of an input, or of one of its texts."""
    if not isinstance(backbone, TextBackbone):
        return False
    texts = (item.first, item.second) if isinstance(row, PairRow) else (item,)
    parts = parts_of(row)
    full = any(len(part) >= backbone.entry.max_tokens for part in parts)
    return full and bool(backbone.cut_tokens([str(text) for text in texts], parts).any())


def parts_of(row: Any) -> tuple[Any, ...]:
    """Return the texts of a row, as the base's own rows."""
    if isinstance(row, PairRow):
        return (row.first, row.second)
    return (row.ids,) if isinstance(row, WordRow | NgramRow) else (row,)


@dataclass(slots=True)
class Vectors:
    """The vectors that a pass has computed for some rows. Row b's parts begin at part `firsts[b]`."""

    rows: Sequence[Any]
    firsts: Sequence[int]
    pooled: dict[str, Tensor] = field(default_factory=dict)  # by name, one per part: (P, D)
    hidden: dict[str, Tensor] = field(default_factory=dict)  # by `word.<depth>`, of all tokens: (N, D)
    starts: Sequence[int] = ()  # of each part's first token in `hidden`

    def take(self, names: Sequence[str], chosen: Sequence[int]) -> tuple[Tensor, list[int] | None]:
        """Return the named features of some rows side by side, and how many vectors each row has (None: one each)."""
        mode = input_mode_of(names)
        firsts = [self.firsts[row] for row in chosen]
        if mode == "words":
            return self._take_words(names, chosen, firsts)
        device = next(iter(self.pooled.values())).device
        index = torch.tensor(firsts, device=device)
        if mode == "whole":
            return torch.cat([self.pooled[name][index] for name in names], dim=1), None
        both = torch.cat([index, index + 1])
        found = []
        for name in names:
            feature = feature_names.parse(name)
            found.append(pairs.compare(feature.pair, self.pooled[feature.single][both], len(chosen)))
        return torch.cat(found, dim=1), None

    def _take_words(
        self, names: Sequence[str], chosen: Sequence[int], firsts: Sequence[int]
    ) -> tuple[Tensor, list[int]]:
        rows = [self.rows[row] for row in chosen]
        device = next(iter(self.hidden.values())).device
        where = words.locate(rows, [self.starts[first] for first in firsts], None, device)
        found = [words.pool(self.hidden[computed(name)], where, feature_names.parse(name).kind) for name in names]
        return torch.cat(found, dim=1), words.count_words(rows).tolist()
