"""Stretches of a text with labels: a tag per word (B, I of each label, or O), entity-level F1.

Tags are numbered: 0 is O, 1 + 2k begins label k, 2 + 2k goes on with it. What a head says of single words becomes spans
by Viterbi's algorithm under one rule: I follows B or I of its own label.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.backbones.words import joined, word_spans
from models.datasets.windowing import WordSplit
from models.learning.data.ragged import Ragged

Ints = NDArray[np.int64]

_STRETCH = re.compile(r"\S+")
_LEAST = 1e-9  # a probability whose logarithm is finite
# By which the logarithm of O's probability may be moved, and how finely.
_LOWEST, _HIGHEST, _STEP = -3.0, 1.0, 0.25
# Two factors are as good within one standard error of F1 (Breiman et al. 1984), and within a point and a half: of few
# spans the error is several points.
_MOST_LOST = 0.015
# A factor from few spans is mostly noise: drawn to 1 with the weight of this many.
_PRIOR_SPANS = 20.0


@dataclass(frozen=True, slots=True)
class Entities:
    """Spans in words, over all rows: unit indices, `end_E` inclusive."""

    start_E: Ints
    end_E: Ints
    label_E: Ints

    def keys(self) -> Ints:
        """(E, 3): equal for equal spans."""
        return np.stack([self.start_E, self.end_E, self.label_E], axis=1)


@dataclass(frozen=True, slots=True)
class Tagged:
    """The W words of a row as its spans tag them, and what of the spans is not in the tags."""

    tags_W: Ints
    inexact_W: NDArray[np.bool_]  # words that begin a span whose own borders are inside of words
    lost: tuple[int, ...]  # labels of the spans without a word: behind what is read, white space, in another's word


def tag(spans: Sequence[tuple[int, int, int]], words_W2: Ints) -> Tagged:
    """Tag words by spans (first character, one past the last, label) that do not overlap.

    A word belongs to the span that has its first character that is in any: borders inside of words move to those of
    words. White space at the ends of a span is no part of it.
    """
    tags_W = np.zeros(len(words_W2), dtype=np.int64)
    inexact_W = np.zeros(len(words_W2), dtype=np.bool_)
    lost: list[int] = []
    for start, end, label in spans:
        touched = np.flatnonzero((words_W2[:, 0] < end) & (words_W2[:, 1] > start))
        inside = touched[tags_W[touched] == 0]
        if not len(inside):
            lost.append(label)
            continue
        tags_W[inside] = 2 + 2 * label
        tags_W[inside[0]] = 1 + 2 * label
        inexact_W[inside[0]] = words_W2[touched[0], 0] < start or words_W2[touched[-1], 1] > end
    return Tagged(tags_W, inexact_W, tuple(lost))


def choose_words(
    texts: Sequence[str], spans_of: Iterable[Sequence[tuple[int, int, int]]], *, check_stop: Callable[[], None]
) -> WordSplit:
    """Return "joined" where no span loses a border by it: fewer words to be right about in every span.

    Spans of tokenised rows begin and end at spaces. On wnut17 a fifth of the words were pieces of others.
    """
    for text, row_spans in zip(texts, spans_of, strict=True):
        check_stop()
        if row_spans and _loses_border(text, row_spans):
            return "apart"
    return "joined"


def _loses_border(text: str, row_spans: Sequence[tuple[int, int, int]]) -> bool:
    """Return whether a span begins or ends at a word that `joined` has made a part of another.

    Stretches between spaces are read by themselves, and only those with a border inside: at their ends both ways agree.
    """
    stretches = list(_STRETCH.finditer(text))
    starts = [stretch.start() for stretch in stretches]
    borders: dict[int, set[tuple[int, int]]] = {}  # by stretch: 0 for a begin, 1 for an end, and where it is
    for start, end, _ in row_spans:
        for side, place in enumerate((start, end)):
            at = bisect_left(starts, place) - 1
            if at >= 0 and place < stretches[at].end():
                borders.setdefault(at, set()).add((side, place - starts[at]))
    for at, places in borders.items():
        said = stretches[at].group()
        apart_W2 = word_spans(said)
        joined_W2 = joined(apart_W2, said)
        for side in (0, 1):
            lost = {*apart_W2[:, side].tolist()} - {*joined_W2[:, side].tolist()}
            if any((side, place) in places for place in lost):
                return True
    return False


def entities(tags: Ragged) -> Entities:
    """Return the spans that valid tags spell."""
    tags_U = tags.values
    goes_on_U = (tags_U > 0) & (tags_U % 2 == 0)
    start_E = np.flatnonzero(tags_U % 2 == 1)
    edges = np.union1d(np.flatnonzero(~goes_on_U), tags.starts)  # where no span goes on, the ends of rows included
    end_E = edges[np.searchsorted(edges, start_E, side="right")] - 1
    return Entities(start_E, end_E, tags_U[start_E] // 2)


def viterbi(probabilities: Ragged) -> Ragged:
    """Return the most probable valid tags of each row, all rows side by side, word by word."""
    logs_UK = np.log(np.maximum(probabilities.values, _LEAST))
    counts_N = probabilities.counts
    tags_U = np.zeros(len(logs_UK), dtype=np.int64)
    order = np.argsort(-counts_N, kind="stable")
    order = order[counts_N[order] > 0]
    first_N = probabilities.starts[:-1][order]
    lengths_N = counts_N[order]
    score_NK = logs_UK[first_N]
    score_NK[:, 2::2] = -np.inf  # no row begins inside a span
    back: list[Ints] = []
    for step in range(1, int(lengths_N[0]) if len(lengths_N) else 0):
        here = int(np.searchsorted(-lengths_N, -step))  # rows that are longer than `step`: the first ones
        before_NK = _best_before(score_NK[:here])
        back.append(before_NK)
        score_NK[:here] = np.take_along_axis(score_NK[:here], before_NK, axis=1) + logs_UK[first_N[:here] + step]
    current_N = score_NK.argmax(1)
    for step in range(len(back), -1, -1):
        here = int(np.searchsorted(-lengths_N, -step))
        tags_U[first_N[:here] + step] = current_N[:here]
        if step:
            current_N[:here] = back[step - 1][np.arange(here), current_N[:here]]
    return Ragged(tags_U, probabilities.starts)


def weigh_outside(probabilities_UK: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Return the probabilities with that of O times a factor; below 1, more spans are found."""
    weighed_UK = probabilities_UK.copy()
    weighed_UK[:, 0] *= np.float32(factor)
    return weighed_UK


def tune_outside(true: Ragged, probabilities_UK: NDArray[np.float32]) -> float:
    """Return the factor for O's probability with the best F1 of whole spans; of about equals, the least.

    Where few words are in spans the most probable tags leave out spans that are as likely as not: an answer is worth
    giving from a probability of half of F1 (Lipton et al., arXiv:1402.1892), not of 1/2. Of names in texts to come,
    which no row had, a head is less sure: in wnut17's other two files, of other forums, F1 is best at half this factor.
    """
    right_of = entities(true)
    wanted = len(right_of.start_E)
    # Stretches of words that O does not win under every factor: a twentieth of the words, the others hardly matter.
    kept_S = np.flatnonzero(probabilities_UK[:, 1:].max(1, initial=0.0) >= np.exp(_LOWEST) * probabilities_UK[:, 0])
    begins_S = np.isin(kept_S, true.starts) | (np.diff(kept_S, prepend=-2) > 1)
    starts = np.append(np.flatnonzero(begins_S), len(kept_S))
    values_SK = probabilities_UK[kept_S]
    tried: dict[float, tuple[float, float]] = {}  # by the factor's logarithm: F1, and how much of it may be noise

    def f1(logarithm: float) -> float:
        if logarithm not in tried:
            among = entities(viterbi(Ragged(weigh_outside(values_SK, np.exp(logarithm)), starts)))
            found = Entities(kept_S[among.start_E], kept_S[among.end_E], among.label_E)
            answers = max((wanted + len(found.start_E)) / 2, 1.0)
            score = int(matches(right_of, found).sum()) / answers
            tried[logarithm] = score, min((max(score * (1.0 - score), 0.0) / answers) ** 0.5, _MOST_LOST)
        return tried[logarithm][0]

    steps = np.arange(_LOWEST, _HIGHEST + _STEP, 2 * _STEP).tolist()
    coarse = max(sorted(steps, key=abs), key=f1)  # of equals that which changes least
    best = max((coarse, coarse - _STEP, coarse + _STEP), key=f1)
    enough = f1(best) - tried[best][1]
    if f1(best) < 1.0:
        best = min(logarithm for logarithm in tried if logarithm <= best and f1(logarithm) >= enough)
    return float(np.exp(best * wanted / (wanted + _PRIOR_SPANS)))


def matches(true: Entities, found: Entities) -> NDArray[np.bool_]:
    """Return which of `found` are in `true`, exactly: (E,)."""
    known = {tuple(key) for key in true.keys().tolist()}
    return np.fromiter((tuple(key) in known for key in found.keys().tolist()), np.bool_, count=len(found.start_E))


def carry_over(probabilities: Ragged, words: Sequence[Ints], others: Sequence[Ints]) -> NDArray[np.float32]:
    """Return (V, K) for the V `others`, the same rows in other words: 1 for the tag that the spans found give to each.

    `words` and `others` are each row's first character and one past the last of every word, (W, 2).
    """
    found = entities(viterbi(probabilities))
    words_U2 = np.concatenate(words)
    row_E = probabilities.owners[found.start_E]
    spans_of: list[list[tuple[int, int, int]]] = [[] for _ in others]
    for row, (start, end, label) in zip(row_E.tolist(), found.keys().tolist(), strict=True):
        spans_of[row].append((int(words_U2[start, 0]), int(words_U2[end, 1]), label))
    tags_V = np.concatenate([tag(row_spans, row_W2).tags_W for row_spans, row_W2 in zip(spans_of, others, strict=True)])
    own_VK = np.zeros((len(tags_V), probabilities.values.shape[1]), dtype=np.float32)
    own_VK[np.arange(len(tags_V)), tags_V] = 1.0
    return own_VK


def decode_spans(
    probabilities: Sequence[NDArray[np.float32]],
    words: Sequence[Ints],
    texts: Sequence[str],
    labels: Sequence[str],
    outside: float = 1.0,
) -> list[list[dict[str, Any]]]:
    """Return each row's spans as the API answers them. A span's score is its least probable word's.

    `outside` is the factor for O, see `tune_outside`. All rows together: as many steps as the longest has words.
    """
    rows = Ragged.of(np.concatenate(probabilities), np.array([len(row_WK) for row_WK in probabilities]))
    tags = viterbi(Ragged(weigh_outside(rows.values, outside), rows.starts))
    own_U = rows.values[np.arange(len(tags.values)), tags.values]
    words_U2 = np.concatenate(words)
    found = entities(tags)
    spans: list[list[dict[str, Any]]] = [[] for _ in texts]
    for row, (start, end, label) in zip(rows.owners[found.start_E].tolist(), found.keys().tolist(), strict=True):
        first, last = int(words_U2[start, 0]), int(words_U2[end, 1])
        score = float(own_U[start : end + 1].min())
        text = texts[row][first:last]
        spans[row].append({"start": first, "end": last, "label": labels[label], "score": score, "text": text})
    return spans


def _best_before(score_NK: NDArray[np.float32]) -> Ints:
    """Return for each tag the best one before it, (N, K): any before O and B, only its own label's before I."""
    rows, outputs = score_NK.shape
    before_NK = np.repeat(score_NK.argmax(1)[:, None], outputs, axis=1)
    begins, insides = np.arange(1, outputs, 2), np.arange(2, outputs, 2)
    before_NK[:, 2::2] = np.where(score_NK[:, 2::2] > score_NK[:, 1::2], insides, begins)
    return before_NK.reshape(rows, outputs)
