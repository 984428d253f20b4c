"""N-grams of a text: its words, pairs of neighbouring words, and runs of 3 to 5 characters of a word. Hashed.

They need no language and no tokeniser, so they help where the base was not trained on the like. The bucket of an
n-gram depends on its characters alone, in every process and on every machine. All spans of many texts are hashed at
once: a polynomial over code points, whose prefix sums give the hash of any span in a few array operations.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from models.datasets.windowing import Windowing

# Of 24-bit buckets, two n-grams of a vocabulary of 50,000 share one with a chance of 0.3 % each.
_BUCKET_BITS = 24
_RUNS = (3, 4, 5)
# What is read of a text where its base reads only the beginning: about as much as one of 512 tokens sees.
_MOST_CHARACTERS = 2_000
# Of a text in windows, per token of what the base reads: an English token has four to five with the space behind it.
_CHARACTERS_PER_TOKEN = 5
# Characters that are hashed at once: 40 MB of arrays.
_CHUNK = 2**18
# Scripts without spaces between words are read sign by sign, as tokenisers do it; else words, and runs of other signs.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|[^\W\u3040-\u9fff\uf900-\ufaff]+|[^\w\s]+")
_SPACE = 0x20

_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
_INVERSE = pow(_BASE, -1, 2**64)
_WORD_SALT, _RUN_SALT = np.uint64(0x632BE59BD9B4E019), np.uint64(0xD1342543DE82EF95)

UInts = NDArray[np.uint64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ngrams:
    """N-grams of N texts: text n has `buckets[starts[n] : starts[n + 1]]`, ascending, each as often as `counts`."""

    starts: Ints  # (N + 1,)
    buckets: NDArray[np.int32]  # (T,)
    counts: NDArray[np.float32]  # (T,)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def take(self, rows: Ints) -> Ngrams:
        """Return those of some texts, in this order."""
        lengths = np.diff(self.starts)[rows]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        where = np.arange(starts[-1]) - np.repeat(starts[:-1] - self.starts[:-1][rows], lengths)
        return Ngrams(starts, self.buckets[where], self.counts[where])

    def each(self) -> list[Ngrams]:
        """Return those of every text by itself."""
        borders = self.starts.tolist()
        return [
            Ngrams(np.array([0, end - start]), self.buckets[start:end], self.counts[start:end])
            for start, end in pairwise(borders)
        ]


def join(parts: Sequence[Ngrams]) -> Ngrams:
    """Return the n-grams of all parts, one part's texts after the other's."""
    lengths = np.concatenate([np.diff(part.starts) for part in parts])
    return Ngrams(
        starts=np.concatenate([[0], np.cumsum(lengths)]),
        buckets=np.concatenate([part.buckets for part in parts]),
        counts=np.concatenate([part.counts for part in parts]),
    )


def most_characters(windowing: Windowing | None) -> int:
    """Return how many characters of a text are read beside a base that reads long texts so."""
    return _MOST_CHARACTERS if windowing is None else max(_MOST_CHARACTERS, _CHARACTERS_PER_TOKEN * windowing.tokens)


def read(texts: Sequence[str], *, most: int = _MOST_CHARACTERS) -> Ngrams:
    """Return the n-grams of the first `most` characters of every text."""
    parts = [_count(chunk) for chunk in _chunks([_normalise(text[:most]) for text in texts])]
    lengths = np.concatenate([np.zeros(1, dtype=np.int64), *(lengths for lengths, _, _ in parts)])
    return Ngrams(
        starts=np.cumsum(lengths),
        buckets=np.concatenate([np.empty(0, dtype=np.int32), *(buckets for _, buckets, _ in parts)]),
        counts=np.concatenate([np.empty(0, dtype=np.float32), *(counts for _, _, counts in parts)]),
    )


def _normalise(text: str) -> str:
    """Return the words between single spaces, a space before the first and after the last."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return f" {' '.join(_WORD.findall(text.casefold()))} "


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for text in texts:
        chunk.append(text)
        size += len(text)
        if size >= _CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _count(texts: Sequence[str]) -> tuple[Ints, NDArray[np.int32], NDArray[np.float32]]:
    """Return the number of n-grams of each text, their buckets, and how often each occurs."""
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    text_of = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    powers = np.full(len(codes), _BASE, dtype=np.uint64).cumprod()
    inverses = np.full(len(codes), _INVERSE, dtype=np.uint64).cumprod()
    sums = np.concatenate([np.zeros(1, dtype=np.uint64), (codes * powers).cumsum(dtype=np.uint64)])
    spaces = np.flatnonzero(codes == _SPACE)
    gaps = np.diff(spaces)
    before, after = spaces[:-1][gaps > 1], spaces[1:][gaps > 1]  # the space on each side of each word

    def spans(starts: Ints, ends: Ints, salt: np.uint64) -> tuple[Ints, Ints]:
        return text_of[starts], _bucket(((sums[ends] - sums[starts]) * inverses[starts]) ^ salt)

    pairs = np.flatnonzero(after[:-1] == before[1:])  # not across texts: between those lie two spaces
    # A run may take in the space before its word, or the one after it: beginnings and ends are n-grams of their own.
    lengths = after - before
    starts = np.repeat(before - np.cumsum(lengths) + lengths, lengths) + np.arange(int(lengths.sum()))
    room = np.repeat(after + 1, lengths) - starts
    found = [spans(before + 1, after, _WORD_SALT), spans(before[pairs] + 1, after[pairs + 1], _WORD_SALT)]
    for length in _RUNS:
        fitting = starts[room >= length]
        found.append(spans(fitting, fitting + length, _RUN_SALT))
    keys = np.concatenate([(text << _BUCKET_BITS) | bucket for text, bucket in found])
    keys, counts = np.unique(keys, return_counts=True)
    lengths = np.bincount(keys >> _BUCKET_BITS, minlength=len(texts))
    return lengths, (keys & (2**_BUCKET_BITS - 1)).astype(np.int32), counts.astype(np.float32)


def _bucket(hashes: UInts) -> Ints:
    """Return the upper bits after the finaliser of SplitMix64, which spreads every bit over all."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((hashes ^ (hashes >> np.uint64(31))) >> np.uint64(64 - _BUCKET_BITS)).astype(np.int64)
