"""token-classification: spans with labels in a text. One tag per word, entity-level micro-F1."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.backbones.backbone import Backbone
from models.backbones.text import TextBackbone
from models.backbones.words import WordBackbone, WordRow
from models.datasets.examples import Input, Span, Target
from models.datasets.windowing import Windowing
from models.learning.data.ragged import Ragged
from models.learning.tasks import spans
from models.learning.tasks.class_figures import precision_and_recall
from models.learning.tasks.link_functions import SOFTMAX, LinkFunction
from models.learning.tasks.task import Chosen, DecodeOptions, Floats, Tally, Targets, as_objects, shares


@dataclass(frozen=True, slots=True)
class TokenLabels:
    """Tagging of words. Targets: spans by label index until they are aligned, then Ragged int64 tags."""

    name: str = "token-classification"
    metric: str = "entity_f1"
    link: LinkFunction = SOFTMAX
    scale: tuple[float, float] = (0.0, 1.0)
    scored_labels: Literal["none"] = "none"
    answer_options: frozenset[str] = frozenset()

    def bind(self, targets: Sequence[Target]) -> TokenLabels:  # noqa: ARG002
        """Return the task itself: labels have no scale."""
        return self

    def read(
        self, windowing: Windowing, inputs: Sequence[Input], targets: Targets, *, check_stop: Callable[[], None]
    ) -> Windowing:
        """Return the way with the longest words in which no span ends inside of one (decision 0041)."""
        texts = [str(item) for item in inputs]
        return replace(windowing, words=spans.choose_words(texts, targets, check_stop=check_stop))

    def view(self, backbone: Backbone, inputs: Sequence[Input]) -> Backbone:  # noqa: ARG002
        """Return the base with one vector per word."""
        if not isinstance(backbone, TextBackbone):
            raise TypeError(f"words are read by a text base, not by {type(backbone).__name__}")
        return WordBackbone(backbone)

    def labels(self, targets: Sequence[Target]) -> tuple[str, ...]:
        """Return the labels of the spans, sorted."""
        return tuple(sorted({span.label for target in targets for span in _spans(target)}))

    def outputs(self, labels: Sequence[str]) -> int:
        """Return the number of tags: O, and B and I of each label."""
        return 1 + 2 * len(labels)

    def kinds(self, targets: Sequence[Target]) -> int:
        """Return how many labels there are, and one for the rest of the text."""
        return 1 + len(self.labels(targets))

    def encode(self, targets: Sequence[Target], labels: Sequence[str]) -> Targets:
        """Return a tuple per row, (N,), of spans (first character, one past the last, label index)."""
        index = {label: position for position, label in enumerate(labels)}
        return as_objects(
            [tuple((span.start, span.end, index[span.label]) for span in _spans(target)) for target in targets]
        )

    def align(self, encoded: Targets, rows: Sequence[WordRow]) -> Ragged:
        """Return the tags of the words that the spans, given in characters, amount to."""
        tagged = [spans.tag(row_spans, row.spans_W2) for row_spans, row in zip(encoded, rows, strict=True)]
        counts_N = np.array([len(row.tags_W) for row in tagged])
        inexact_U = np.concatenate([row.inexact_W for row in tagged])
        tags_U = np.concatenate([row.tags_W for row in tagged])
        return Ragged.of(tags_U, counts_N, _lost(tagged), inexact_U if inexact_U.any() else None)

    def label_name_targets(self, labels: Sequence[str]) -> None:
        """Return None: a label's name is not a text with such a span."""

    def strata(self, encoded: Ragged) -> NDArray[np.int64]:
        """Return the rarest label of each row, (N,); rows without any are a group."""
        labels = int(encoded.values.max(initial=0) + 1) // 2
        found = spans.entities(encoded)
        carried_NK = np.zeros((len(encoded), labels), dtype=np.bool_)
        carried_NK[encoded.owners[found.start_E], found.label_E] = True
        rarity_NK = np.where(carried_NK, carried_NK.sum(0), np.inf)
        if not labels:
            return np.zeros(len(encoded), dtype=np.int64)
        strata_N: NDArray[np.int64] = np.where(carried_NK.any(1), rarity_NK.argmin(1), labels).astype(np.int64)
        return strata_N

    def supports(self, encoded: Ragged, labels: Sequence[str]) -> NDArray[np.int64]:
        """Return the spans per label, (K,), those that no word stands for as well."""
        supports_K = np.bincount(spans.entities(encoded).label_E, minlength=len(labels)).astype(np.int64)
        if encoded.unread_NL is not None:
            supports_K[: encoded.unread_NL.shape[1]] += encoded.unread_NL.sum(0)
        return supports_K

    def decide(self, probabilities_NK: Floats, thresholds_K: Floats | None) -> Chosen:
        """Return probabilities, O's times its factor: a word's tag depends on its row's others, see `tally`."""
        return (
            probabilities_NK if thresholds_K is None else spans.weigh_outside(probabilities_NK, float(thresholds_K[0]))
        )

    def majority(self, encoded: Ragged, held: Ragged) -> Chosen:  # noqa: ARG002
        """Return O for every word: no span anywhere."""
        return np.ones((len(held.values), 1), dtype=np.float32)

    def tally(self, encoded: Ragged, chosen: Chosen) -> Tally:
        """Return the tally of F1 = 2 tp / (2 tp + fp + fn): spans whose borders and label are exactly right."""
        true, found, right_E = _compare(encoded, chosen)
        rows = len(encoded)
        right_N = np.bincount(encoded.owners[found.start_E[right_E]], minlength=rows)
        there_N = np.bincount(encoded.owners[true.start_E], minlength=rows)
        if encoded.unread_NL is not None:  # truth that no word stands for is missed, not forgotten
            there_N = there_N + encoded.unread_NL.sum(1)
        said_N = np.bincount(encoded.owners[found.start_E], minlength=rows)
        return shares(2 * right_N, there_N + said_N)

    def figures(
        self,
        encoded: Ragged,
        probabilities_NK: Floats,  # noqa: ARG002
        chosen: Chosen,
        labels: Sequence[str],
    ) -> dict[str, Any]:
        """Return precision, recall and F1 of every label's spans, and of all."""
        true, found, right_E = _compare(encoded, chosen)

        def count(label_E: NDArray[np.int64]) -> NDArray[np.int64]:
            return np.bincount(label_E, minlength=len(labels)).astype(np.int64)

        right_K, said_K, there_K = count(found.label_E[right_E]), count(found.label_E), count(true.label_E)
        if encoded.unread_NL is not None:
            there_K[: encoded.unread_NL.shape[1]] += encoded.unread_NL.sum(0)
        every = [counts_K.sum(keepdims=True) for counts_K in (right_K, said_K, there_K)]
        (total,) = precision_and_recall(every[0], every[1], every[2], ["all"])
        return {
            "per_class": precision_and_recall(right_K, said_K, there_K, labels),
            "spans": {name: value for name, value in total.items() if name != "label"},
        }

    def tune_thresholds(self, encoded: Ragged, probabilities_NK: Floats) -> Floats:
        """Return the factor for O's probability, (1,), that finds the spans with the best F1."""
        return np.array([spans.tune_outside(encoded, probabilities_NK)], dtype=np.float32)

    def decode(
        self,
        outputs: Sequence[Floats],
        inputs: Sequence[Input],
        rows: Mapping[int, Any],
        options: DecodeOptions,
    ) -> list[dict[str, Any]]:
        """Return `{"spans": [{"start", "end", "label", "score", "text"}]}`, in text order; `rows` are WordRows."""
        words = [rows[index].spans_W2 for index in range(len(outputs))]
        outside = options.thresholds[0] if options.thresholds else 1.0  # older versions have none
        found = spans.decode_spans(outputs, words, [str(item) for item in inputs], options.labels, outside)
        return [{"spans": row} for row in found]


def _compare(encoded: Ragged, probabilities_UK: Floats) -> tuple[spans.Entities, spans.Entities, NDArray[np.bool_]]:
    """Return true spans, found spans, and which of the found ones are right."""
    true = spans.entities(encoded)
    found = spans.entities(spans.viterbi(Ragged(probabilities_UK, encoded.starts)))
    right_E = spans.matches(true, found)
    if encoded.inexact_U is not None:  # words' borders where the truth has others: missed, and what is found is wrong
        right_E &= ~encoded.inexact_U[found.start_E]
    return true, found, right_E


def _lost(tagged: Sequence[spans.Tagged]) -> NDArray[np.int64] | None:
    """Return the spans per row and label that have no word, (N, L): no model can find them. None: there are none."""
    lost = [(at, label) for at, row in enumerate(tagged) for label in row.lost]
    if not lost:
        return None
    lost_NL = np.zeros((len(tagged), 1 + max(label for _, label in lost)), dtype=np.int64)
    np.add.at(lost_NL, tuple(np.array(lost).T), 1)
    return lost_NL


def _spans(target: Target) -> tuple[Span, ...]:
    return target if isinstance(target, tuple) else ()  # type: ignore[return-value]
