"""Pairs of texts: each text is read by itself, and the head's input is how their vectors compare.

A bi-encoder (arXiv:1908.10084). Reading both as one sequence needs a base that was trained to: the frozen features of
a sentence encoder on such sequences reach a Pearson correlation of 0.48 with STS benchmark's scores, the cosine alone
0.83, comparisons at every depth 0.85.

Features have names such as `product_unit_mean.6`, see `feature_names`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.backbones.backbone import Backbone, Encoder
from models.backbones.batches import RowEncoding
from models.backbones.feature_names import split_pair
from models.datasets.examples import TextPair
from models.datasets.windowing import Windowing

Comparison = Callable[[Tensor, Tensor], Tensor]

# Pooled vectors of the first and of the second texts, (B, D) each → the head's input, (B, F).
COMPARISONS: dict[str, Comparison] = {
    "product": lambda first_BD, second_BD: first_BD * second_BD,
    "distance": lambda first_BD, second_BD: (first_BD - second_BD).abs(),
    "cosine": lambda first_BD, second_BD: functional.cosine_similarity(first_BD, second_BD, dim=1)[:, None],
    "first": lambda first_BD, second_BD: first_BD,  # noqa: ARG005
    "second": lambda first_BD, second_BD: second_BD,  # noqa: ARG005
}
_NUMBERS = {"cosine": 1}  # of a comparison, where it does not have as many as the base is wide


@dataclass(frozen=True, slots=True)
class PairRow:
    """Both texts, tokenised."""

    first: Any
    second: Any

    def __len__(self) -> int:
        return len(self.first) + len(self.second)


@dataclass(frozen=True, slots=True)
class PairBatch:
    """First texts, then second texts, as one batch of the base's."""

    texts: Any
    rows: int


def compare(comparison: str, pooled_2BD: Tensor, rows: int) -> Tensor:
    """Return the head's input, (B, F), from the first texts' vectors and below them the second texts'."""
    return COMPARISONS[comparison](pooled_2BD[:rows], pooled_2BD[rows:])


def feature_width(backbone: Backbone, name: str) -> int:
    """Return how many numbers the named feature has, of one text or of two."""
    comparison, plain = split_pair(name)
    return _NUMBERS.get(comparison) or backbone.feature_width(plain)


def tokenize(backbone: Backbone, inputs: Sequence[TextPair]) -> list[PairRow]:
    """Tokenise each text by itself."""
    texts = backbone.tokenize([text for pair in inputs for text in (pair.first, pair.second)])
    return [PairRow(first, second) for first, second in zip(texts[::2], texts[1::2], strict=True)]


def flatten(rows: Sequence[PairRow]) -> list[Any]:
    """Return first texts, then second texts."""
    return [row.first for row in rows] + [row.second for row in rows]


class PairEncoder(nn.Module):
    """A text encoder that reads batches of pairs. Parameters have the names that they have in the encoder."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.embeddings, self.blocks = encoder.embeddings, encoder.blocks
        self._texts = [encoder]  # in a list: its parameters are these already

    def embed(self, batch: PairBatch) -> Tensor:
        """Return the hidden states at depth 0."""
        return self._texts[0].embed(batch.texts)

    def run(
        self, batch: PairBatch, hidden: Tensor, start: int, stop: int, *, taps: Collection[int] = ()
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Run the encoder's blocks."""
        return self._texts[0].run(batch.texts, hidden, start, stop, taps=taps)

    def pool(self, hidden: Tensor, batch: PairBatch, kind: str) -> Tensor:
        """Return (B, F) float32."""
        comparison, pooling = split_pair(kind)
        return compare(comparison, self._texts[0].pool(hidden, batch.texts, pooling), batch.rows)


class PairBackbone(RowEncoding):
    """A text base as a base for pairs: the same weights."""

    def __init__(self, texts: Backbone) -> None:
        self._texts = texts
        self.entry = texts.entry
        self.revision = texts.revision
        self.blocks = texts.blocks
        self.width = texts.width
        self.device = texts.device
        self.dtype = texts.dtype
        self.threads = texts.threads
        self.linear = texts.linear
        self.windowing = texts.windowing

    def with_windowing(self, windowing: Windowing | None) -> PairBackbone:
        """Return the same base, which reads long texts so."""
        return PairBackbone(self._texts.with_windowing(windowing))

    def tokenize(self, inputs: Sequence[TextPair]) -> list[PairRow]:
        """Tokenise each text by itself."""
        return tokenize(self._texts, inputs)

    def units(self, rows: Sequence[PairRow]) -> None:
        """Return None: one vector per row."""

    def collate(self, rows: Sequence[PairRow]) -> PairBatch:
        """Pad to the longest text and move to the device."""
        return PairBatch(self._texts.collate(flatten(rows)), len(rows))

    def plan(self, lengths: Sequence[int] | NDArray[Any]) -> list[NDArray[np.int64]]:
        """Return row indices in batches of similar length."""
        return self._texts.plan(lengths)

    def feature_sets(self) -> Mapping[str, tuple[str, ...]]:
        """Return sets of features worth trying; the default first."""
        depths = range(self.blocks + 1)
        last = tuple(f"{way}_unit_{pool}.{self.blocks}" for pool in ("mean", "max") for way in ("product", "distance"))
        every = tuple(f"{way}_unit_mean.{depth}" for depth in depths for way in ("product", "distance"))
        cosine = self.probe(self.blocks)
        return {
            "last": (cosine, *last),
            "depths": (cosine, *every, *last[2:]),
            "cosines": (*(self.probe(depth) for depth in depths), f"cosine_max.{self.blocks}"),
            "last-both": (cosine, *last, f"first_unit_mean.{self.blocks}", f"second_unit_mean.{self.blocks}"),
        }

    def probe(self, depth: int) -> str:
        """Return the cosine of both means."""
        return f"cosine_mean.{depth}"

    def parse_feature(self, name: str) -> tuple[str, int]:
        """Return kind and depth: `"product_mean.6"` → ("product_mean", 6). Raises ValueError."""
        comparison, plain = split_pair(name)
        if not comparison:
            raise ValueError(f"unknown feature '{name}' of a pair, expected for example 'product_mean.6'")
        kind, depth = self._texts.parse_feature(plain)
        return f"{comparison}_{kind}", depth

    def feature_width(self, name: str) -> int:
        """Return 1 for a cosine, else the base's width."""
        return feature_width(self._texts, name)

    def pool(self, hidden: Tensor, batch: PairBatch, kind: str) -> Tensor:
        """Return (B, F) float32."""
        comparison, pooling = split_pair(kind)
        return compare(comparison, self._texts.pool(hidden, batch.texts, pooling), batch.rows)

    @torch.inference_mode()
    def frozen_features(self, rows: Sequence[PairRow], names: Collection[str]) -> dict[str, Tensor]:
        """Return features of rows in one pass, (B, F) float32 each."""
        asked = {name: split_pair(name) for name in names}
        plain = self._texts.frozen_features(flatten(rows), list(dict.fromkeys(name for _, name in asked.values())))
        return {name: compare(way, plain[feature], len(rows)) for name, (way, feature) in asked.items()}

    def trainable_copy(self) -> PairEncoder:
        """Return a fresh fp32 encoder of pairs; shares nothing with the frozen one."""
        return PairEncoder(self._texts.trainable_copy())
