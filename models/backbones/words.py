"""Texts word by word: one vector per word, the mean over its tokens, and those of its neighbours.

Texts are split into words here, not by the tokeniser: at white space, with punctuation apart and, in scripts without
spaces, character by character. So a span ends where a person would end it, under every tokeniser.

Features are named `word.<depth>`, `before.<depth>` and `after.<depth>`: of the word itself, and of those beside it;
`shape.0`, `shape_before.0` and `shape_after.0` are the shapes of the same words (`word_shapes`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.backbones import feature_names, windows, word_shapes
from models.backbones.backbone import Encoder
from models.backbones.batches import RowEncoding
from models.backbones.encoder import TextEncoder
from models.backbones.feature_names import WORD_POOLINGS, WORD_SHAPES
from models.backbones.text import TextBackbone
from models.backbones.windows import TokenIds, WindowRow
from models.datasets.windowing import Windowing
from models.datasets.word_borders import is_unspaced, kind_of

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

# What `joined` leaves apart at the beginning and at the end of a stretch without spaces.
_OPENING, _CLOSING = frozenset("\"'([{<«“‘„"), frozenset(".,;:!?…)]}>\"'»”’")
_APOSTROPHES = frozenset("'’")


@dataclass(frozen=True, slots=True)
class WordRow:
    """A text, tokenised. W words, those behind what is read left out."""

    tokens: TokenIds | WindowRow
    word_T: Ints  # of each token of all windows, -1 for what belongs to none, or is pooled from another window
    spans_W2: Ints  # characters, end exclusive
    shapes_WS: Floats  # see `word_shapes`

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True, slots=True)
class WordBatch:
    """A batch of the base's, and the places of the words in its tokens laid end to end."""

    texts: Any
    place_M: Tensor  # of each token that belongs to a word
    word_M: Tensor  # which of the batch's words it belongs to
    edge_W: Tensor  # 1 at the first word of a row
    shapes_WS: Tensor
    words: int


def word_spans(text: str, last: int | None = None) -> Ints:
    """Return first character and one past the last of each word, (W, 2); with `last`, to a word that ends behind it."""
    spans: list[tuple[int, int]] = []
    joined = False
    for at, character in enumerate(text):
        kind = kind_of(character)
        if kind == "joined" and joined:
            spans[-1] = (spans[-1][0], at + 1)
            continue
        if last is not None and spans and spans[-1][1] > last:
            break
        if kind != "space":
            spans.append((at, at + 1))
        joined = kind == "joined"
    return np.array(spans, dtype=np.int64).reshape(-1, 2)


def joined(spans_W2: Ints, text: str) -> Ints:
    """Return the words of `word_spans` with those that touch made one: `don't`, `U.S`, `#tag`, an address.

    Quotes, brackets and the ends of sentences at the edges of such a stretch stay apart, and so does an `'s`. A stretch
    of punctuation alone is one word, and scripts without spaces are left as they are.
    """
    if not len(spans_W2):
        return spans_W2
    found: list[tuple[int, int]] = []
    for stretch in np.split(spans_W2, np.flatnonzero(spans_W2[1:, 0] != spans_W2[:-1, 1]) + 1):
        words = [(int(start), int(end)) for start, end in stretch]
        said = [text[start:end] for start, end in words]
        if any(is_unspaced(ord(word[0])) for word in said):
            found += words
            continue
        first, last = 0, len(words)
        while first < last and said[first] in _OPENING:
            first += 1
        while last > first and said[last - 1] in _CLOSING:
            last -= 1
        if first == last:
            found.append((words[0][0], words[-1][1]))
            continue
        possessive = last - first > 2 and said[last - 2] in _APOSTROPHES and said[last - 1] in ("s", "S")
        owner = last - 2 if possessive else last
        found += words[:first]
        found.append((words[first][0], words[owner - 1][1]))
        if owner < last:
            found.append((words[owner][0], words[last - 1][1]))
        found += words[last:]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def tokenize(backbone: TextBackbone, inputs: Sequence[str]) -> list[WordRow]:
    """Return token ids and the words that they are pieces of."""
    windowing, rows = backbone.windowing, []
    for text, (tokens, offsets_T2) in zip(inputs, backbone.tokenize_with_offsets(inputs), strict=True):
        # No further than the base reads: of a long text that is a small part.
        spans_W2 = word_spans(text, int(offsets_T2[:, 0].max(initial=0)))
        if windowing is not None and windowing.words == "joined":
            spans_W2 = joined(spans_W2, text)
        word_T = np.searchsorted(spans_W2[:, 1], offsets_T2[:, 0], side="right")  # the first that ends behind its begin
        # Tokens of no characters, or of white space at the end.
        word_T[(offsets_T2[:, 0] == offsets_T2[:, 1]) | (word_T == len(spans_W2))] = -1
        words = int(word_T.max(initial=-1)) + 1
        spans_W2 = spans_W2[:words]
        rows.append(WordRow(tokens, word_T, spans_W2, word_shapes.describe(text, spans_W2)))
    return rows


def locate(rows: Sequence[WordRow], starts_P: Ints, texts: Any, device: torch.device) -> WordBatch:
    """Return the places of the words of rows whose windows, one row's after the other's, begin at `starts_P`."""
    counts_B = count_words(rows)
    firsts_B = np.cumsum(counts_B) - counts_B
    edge_W = np.zeros(int(counts_B.sum()) + 1, dtype=np.int64)
    edge_W[firsts_B] = 1
    lengths_P = np.array([len(part) for row in rows for part in windows.parts_of(row.tokens)], dtype=np.int64)
    place_N = np.arange(int(lengths_P.sum())) + np.repeat(starts_P - np.cumsum(lengths_P) + lengths_P, lengths_P)
    word_N = np.concatenate([row.word_T for row in rows])
    pieces = np.flatnonzero(word_N >= 0)
    first_N = np.repeat(firsts_B, [len(row) for row in rows])
    return WordBatch(
        texts,
        torch.from_numpy(place_N[pieces]).to(device),
        torch.from_numpy((word_N + first_N)[pieces]).to(device),
        torch.from_numpy(edge_W[:-1]).to(device),
        torch.from_numpy(np.concatenate([row.shapes_WS for row in rows])).to(device),
        len(edge_W) - 1,
    )


def pool(hidden: Tensor, batch: WordBatch, kind: str) -> Tensor:
    """Return (W, D) float32, row after row: each word's mean over its tokens, or its shape, or a neighbour's."""
    if kind in WORD_SHAPES:
        return shift(batch.shapes_WS, batch.edge_W, WORD_SHAPES[kind])
    pieces_MD = hidden.reshape(-1, hidden.shape[-1])[batch.place_M].float()
    sums_WD = pieces_MD.new_zeros(batch.words, pieces_MD.shape[1]).index_add(0, batch.word_M, pieces_MD)
    counts_W = torch.bincount(batch.word_M, minlength=batch.words).clamp(min=1)
    return shift(sums_WD / counts_W[:, None], batch.edge_W, WORD_POOLINGS[kind])


def shift(words_WD: Tensor, edge_W: Tensor, by: int) -> Tensor:
    """Return each word's neighbour: -1 the one before, 1 the one after, zero beyond a row's ends."""
    if not by or not len(words_WD):
        return words_WD
    moved_WD = words_WD.roll(-by, dims=0)
    beyond_W = edge_W if by < 0 else edge_W.roll(-1)
    return moved_WD * (1 - beyond_W)[:, None].to(moved_WD.dtype)


def count_words(rows: Sequence[WordRow]) -> Ints:
    """Return how many words each row has."""
    return np.fromiter((len(row.spans_W2) for row in rows), dtype=np.int64, count=len(rows))


class WordEncoder(nn.Module):
    """A text encoder whose pooling is per word. Parameters have the names that they have in the encoder."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.embeddings, self.blocks = encoder.embeddings, encoder.blocks
        self._texts = [encoder]  # in a list: its parameters are these already

    def embed(self, batch: WordBatch) -> Tensor:
        """Return the hidden states at depth 0."""
        return self._texts[0].embed(batch.texts)

    def run(
        self, batch: WordBatch, hidden: Tensor, start: int, stop: int, *, taps: Collection[int] = ()
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Run the encoder's blocks."""
        return self._texts[0].run(batch.texts, hidden, start, stop, taps=taps)

    def pool(self, hidden: Tensor, batch: WordBatch, kind: str) -> Tensor:
        """Return (W, D) float32."""
        return pool(hidden, batch, kind)


class WordBackbone(RowEncoding):
    """A text base read word by word: the same weights, another pooling."""

    def __init__(self, texts: TextBackbone) -> None:
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

    def with_windowing(self, windowing: Windowing | None) -> WordBackbone:
        """Return the same base, which reads long texts so."""
        return WordBackbone(self._texts.with_windowing(windowing))

    def tokenize(self, inputs: Sequence[str]) -> list[WordRow]:
        """Return token ids and the words that they are pieces of."""
        return tokenize(self._texts, inputs)

    def units(self, rows: Sequence[WordRow]) -> Ints:
        """Return how many words each row has."""
        return count_words(rows)

    def collate(self, rows: Sequence[WordRow]) -> WordBatch:
        """Pad all windows to the longest and move to the device."""
        texts = self._texts.collate([row.tokens for row in rows])
        parts, longest = texts.ids_BT.shape
        return locate(rows, np.arange(parts) * longest, texts, self.device)

    def plan(self, lengths: Sequence[int] | NDArray[Any]) -> list[Ints]:
        """Return row indices in batches of similar length."""
        return self._texts.plan(lengths)

    def feature_sets(self) -> Mapping[str, tuple[str, ...]]:
        """Return sets of features worth trying; the default first."""
        # Entities are separated best in the middle: the last blocks of a sentence encoder keep what the whole means.
        middle = max(1, (2 * self.blocks + 1) // 3)
        # Neighbours and its own embedding removed a third of the errors of the word by itself (restaurant bookings).
        return {
            "context": (
                *(f"{kind}.{middle}" for kind in WORD_POOLINGS),
                "word.0",
                *(f"{kind}.0" for kind in WORD_SHAPES),
            ),
            "middle": (f"word.{middle}",),
            "depths": tuple(f"word.{depth}" for depth in sorted({max(1, middle // 2), middle, self.blocks})),
        }

    def probe(self, depth: int) -> str:
        """Return the word itself."""
        return f"word.{depth}"

    def parse_feature(self, name: str) -> tuple[str, int]:
        """Return kind and depth: `"before.4"` → ("before", 4). Raises ValueError."""
        feature = feature_names.find(name)
        if feature is None or not feature.per_word or feature.depth > self.blocks:
            raise ValueError(f"unknown feature '{name}' of a word, expected for example 'word.{self.blocks}'")
        return feature.kind, feature.depth

    def feature_width(self, name: str) -> int:
        """Return how many numbers the named feature has."""
        return self._texts.feature_width(name)

    def pool(self, hidden: Tensor, batch: WordBatch, kind: str) -> Tensor:
        """Return (W, D) float32."""
        return pool(hidden, batch, kind)

    @torch.inference_mode()
    def frozen_features(self, rows: Sequence[WordRow], names: Collection[str]) -> dict[str, Tensor]:
        """Return features of the rows' words in one pass, (W, D) float32 each."""
        wanted = {name: self.parse_feature(name) for name in names}
        depths = {depth for _, depth in wanted.values()}
        network = self._texts.network
        if isinstance(network, TextEncoder):
            batch = self.collate(rows)
            _, tapped = network.run(batch.texts, network.embed(batch.texts), 0, max(depths), taps=depths)
        else:
            parts, _ = windows.flatten([row.tokens for row in rows])
            texts = network.pack(parts)
            starts_P = np.empty(len(parts), dtype=np.int64)
            starts_P[list(texts.order)] = texts.offsets
            batch = locate(rows, starts_P, texts, self.device)
            _, tapped = network.run(texts, network.embed(texts), 0, max(depths), taps=depths)
        return {name: pool(tapped[depth], batch, kind) for name, (kind, depth) in wanted.items()}

    def trainable_copy(self) -> WordEncoder:
        """Return a fresh fp32 encoder of words; shares nothing with the frozen one."""
        return WordEncoder(self._texts.trainable_copy())
