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
# A threshold from few positives is mostly noise: it is drawn towards 1/2 with the weight of this many of them.
_PRIOR_POSITIVES = 20.0


@dataclass(frozen=True, slots=True)
class MultiLabel(Labelled):
    """Classification into any of K classes, none included. Targets: (N, K) float32 of 0 and 1."""

    name: str = "multi-label-classification"
    metric: str = "micro_f1"
    link: LinkFunction = SIGMOID
    scored_labels: Literal["all"] = "all"

    def labels(self, targets: Sequence[Target]) -> tuple[str, ...]:
        """Sorted, so that the order of the rows does not change the model."""
        return tuple(sorted({label for target in targets for label in _names(target)}))

    def encode(self, targets: Sequence[Target], labels: Sequence[str]) -> Targets:
        """(N, K) float32."""
        index = {label: position for position, label in enumerate(labels)}
        encoded_NK = np.zeros((len(targets), len(labels)), dtype=np.float32)
        for row, target in enumerate(targets):
            for label in _names(target):
                encoded_NK[row, index[label]] = 1.0
        return encoded_NK

    def named(self, labels: Sequence[str]) -> Sequence[Target]:
        """Return each label alone as the target of its name."""
        return [(label,) for label in labels]

    def strata(self, encoded: Targets) -> NDArray[np.int64]:
        """The rarest label of a row, so that rare labels are in every fold; rows without any are a group."""
        supports_K = encoded.sum(0)
        rarity_NK = np.where(encoded > 0, supports_K, np.inf)
        rarest_N: NDArray[np.int64] = np.where(encoded.any(1), rarity_NK.argmin(1), encoded.shape[1]).astype(np.int64)
        return rarest_N

    def supports(self, encoded: Targets, labels: Sequence[str]) -> NDArray[np.int64]:  # noqa: ARG002
        """Rows per label."""
        supports_K: NDArray[np.int64] = encoded.sum(0).astype(np.int64)
        return supports_K

    def decide(self, probabilities_NK: Floats, thresholds_K: Floats | None) -> NDArray[np.bool_]:
        """Every label at or over its threshold, 1/2 if there are none."""
        return probabilities_NK >= (np.float32(0.5) if thresholds_K is None else thresholds_K)

    def tally(self, encoded: Targets, chosen_NK: NDArray[np.bool_]) -> Tally:
        """F1 = 2 tp / (2 tp + fp + fn), summed over rows."""
        true_NK = encoded > 0
        return shares(2 * (true_NK & chosen_NK).sum(1), true_NK.sum(1) + chosen_NK.sum(1))

    def majority(self, encoded: Targets, held: Targets) -> NDArray[np.bool_]:
        """The most frequent label."""
        return np.tile(np.arange(encoded.shape[1]) == encoded.sum(0).argmax(), (len(held), 1))

    def tune_thresholds(self, encoded: Targets, probabilities_NK: Floats) -> Floats | None:
        """Each label's threshold of the best F1 on held-out rows, drawn towards 1/2 where positives are few."""
        true_NK = encoded > 0
        thresholds_K = np.full(encoded.shape[1], 0.5, dtype=np.float32)
        for label in range(encoded.shape[1]):
            chosen_NT = probabilities_NK[:, label, None] >= _THRESHOLDS
            both_T = (chosen_NT & true_NK[:, label, None]).sum(0)
            f1_T = 2 * both_T / np.maximum(chosen_NT.sum(0) + true_NK[:, label].sum(), 1)
            best = _THRESHOLDS[f1_T >= f1_T.max() - 1e-9].mean()
            trust = true_NK[:, label].sum() / (true_NK[:, label].sum() + _PRIOR_POSITIVES)
            thresholds_K[label] = 0.5 + trust * (best - 0.5)
        return thresholds_K

    def decode(
        self,
        outputs: Sequence[Floats],
        inputs: Sequence[Input],  # noqa: ARG002
        rows: Mapping[int, Any],  # noqa: ARG002
        options: DecodeOptions,
    ) -> list[dict[str, Any]]:
        """`{"labels", "scores", "top"}`: labels at or over their threshold, most probable first; all scores by label.

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
