"""Any number of labels per row: one sigmoid per label, micro-F1, a threshold per label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.datasets.examples import Input, Target
from models.learning.tasks.labelled import Labelled
from models.learning.tasks.link_functions import SIGMOID, LinkFunction
from models.learning.tasks.task import DecodeOptions, Floats, Tally, Targets, best_labels, shares

_THRESHOLDS = np.arange(0.1, 0.91, 0.05, dtype=np.float32)
# A threshold from few positives is mostly noise: drawn to that of all labels with the weight of this many positives.
_PRIOR_POSITIVES = 40.0


@dataclass(frozen=True, slots=True)
class MultiLabel(Labelled):
    """Classification into any of K classes, none included. Targets: (N, K) float32 of 0 and 1."""

    name: str = "multi-label-classification"
    metric: str = "micro_f1"
    link: LinkFunction = SIGMOID
    scored_labels: Literal["all"] = "all"
    answer_options: frozenset[str] = frozenset({"top_k"})

    def labels(self, targets: Sequence[Target]) -> tuple[str, ...]:
        """Return the labels, sorted, so that the order of the rows does not change the model."""
        return tuple(sorted({label for target in targets for label in _names(target)}))

    def kinds(self, targets: Sequence[Target]) -> int:
        """Return how many sets of labels there are: rows with one label and rows without it can be told apart."""
        return len({frozenset(_names(target)) for target in targets})

    def encode(self, targets: Sequence[Target], labels: Sequence[str]) -> Targets:
        """Return 1 for each label that a row has, else 0, (N, K) float32."""
        index = {label: position for position, label in enumerate(labels)}
        encoded_NK = np.zeros((len(targets), len(labels)), dtype=np.float32)
        for row, target in enumerate(targets):
            for label in _names(target):
                encoded_NK[row, index[label]] = 1.0
        return encoded_NK

    def label_name_targets(self, labels: Sequence[str]) -> Sequence[Target]:
        """Return each label by itself: its name is a row with this label alone."""
        return [(label,) for label in labels]

    def strata(self, encoded: Targets) -> NDArray[np.int64]:
        """Return the rarest label of each row, so that rare labels are in every fold; rows without any are a group."""
        supports_K = encoded.sum(0)
        rarity_NK = np.where(encoded > 0, supports_K, np.inf)
        rarest_N: NDArray[np.int64] = np.where(encoded.any(1), rarity_NK.argmin(1), encoded.shape[1]).astype(np.int64)
        return rarest_N

    def supports(self, encoded: Targets, labels: Sequence[str]) -> NDArray[np.int64]:  # noqa: ARG002
        """Return the rows per label, (K,)."""
        supports_K: NDArray[np.int64] = encoded.sum(0).astype(np.int64)
        return supports_K

    def decide(self, probabilities_NK: Floats, thresholds_K: Floats | None) -> NDArray[np.bool_]:
        """Return every label at or over its threshold, as a mask (N, K); without thresholds 1/2 is that of all."""
        return probabilities_NK >= (np.float32(0.5) if thresholds_K is None else thresholds_K)

    def tally(self, encoded: Targets, chosen_NK: NDArray[np.bool_]) -> Tally:
        """Return the tally of micro-F1: 2 tp / (2 tp + fp + fn), summed over rows."""
        true_NK = encoded > 0
        return shares(2 * (true_NK & chosen_NK).sum(1), true_NK.sum(1) + chosen_NK.sum(1))

    def majority(self, encoded: Targets, held: Targets) -> NDArray[np.bool_]:
        """Return the most frequent label for every held-out row, as a mask."""
        return np.tile(np.arange(encoded.shape[1]) == encoded.sum(0).argmax(), (len(held), 1))

    def tune_thresholds(self, encoded: Targets, probabilities_NK: Floats) -> Floats | None:
        """Return the threshold of each label, (K,), that together have the best micro-F1 on held-out rows.

        First one for all labels, of which many positives decide. Then each label's own: F1 over all labels is more with
        a label whose 2 tp is more than F1 times what it adds below the line; few positives draw it to the common one.
        """
        true_NK = encoded > 0
        both_TK, possible_TK = np.zeros((2, len(_THRESHOLDS), encoded.shape[1]))
        for at, threshold in enumerate(_THRESHOLDS):
            chosen_NK = probabilities_NK >= threshold
            both_TK[at] = 2 * (chosen_NK & true_NK).sum(0)
            possible_TK[at] = chosen_NK.sum(0) + true_NK.sum(0)
        f1_T = both_TK.sum(1) / np.maximum(possible_TK.sum(1), 1)
        if f1_T.max() == 0:
            return np.full(encoded.shape[1], 0.5, dtype=np.float32)
        common = float(_THRESHOLDS[f1_T >= f1_T.max() - 1e-9].mean())
        gain_TK = both_TK - f1_T.max() * possible_TK
        best_TK = gain_TK >= gain_TK.max(0) - 1e-9
        own_K = (_THRESHOLDS[:, None] * best_TK).sum(0) / best_TK.sum(0)
        trust_K = true_NK.sum(0) / (true_NK.sum(0) + _PRIOR_POSITIVES)
        thresholds_K: Floats = (common + trust_K * (own_K - common)).astype(np.float32)
        return thresholds_K

    def decode(
        self,
        outputs: Sequence[Floats],
        inputs: Sequence[Input],  # noqa: ARG002
        rows: Mapping[int, Any],  # noqa: ARG002
        options: DecodeOptions,
    ) -> list[dict[str, Any]]:
        """Return `{"labels", "scores", "top"}`: labels at or over their thresholds, best first; all scores by label.

        `top` are the `top_k` best, whether over their threshold or not.
        """
        labels = options.labels
        thresholds = options.thresholds or (0.5,) * len(labels)
        predictions = []
        for top, output in zip(best_labels(outputs, labels, options.top_k), outputs, strict=True):
            scores = output.tolist()
            chosen = [at for at, score in enumerate(scores) if score >= thresholds[at]]
            chosen.sort(key=scores.__getitem__, reverse=True)
            predictions.append(
                {
                    "labels": [labels[at] for at in chosen],
                    "scores": dict(zip(labels, scores, strict=True)),
                    "top": top,
                }
            )
        return predictions


def _names(target: Target) -> Sequence[str]:
    return target if isinstance(target, tuple) else (str(target),)  # type: ignore[return-value]
