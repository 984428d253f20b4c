"""Exactly one label per row: softmax, accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.datasets.examples import Input, Target
from models.learning.tasks.labelled import Labelled
from models.learning.tasks.link_functions import SOFTMAX, LinkFunction
from models.learning.tasks.task import DecodeOptions, Floats, Tally, Targets, best_labels, hits


@dataclass(frozen=True, slots=True)
class SingleLabel(Labelled):
    """Classification into one of K classes. Targets: (N,) int64."""

    name: str = "text-classification"
    metric: str = "accuracy"
    link: LinkFunction = SOFTMAX
    scored_labels: Literal["top_k"] = "top_k"
    answer_options: frozenset[str] = frozenset({"top_k"})

    def labels(self, targets: Sequence[Target]) -> tuple[str, ...]:
        """Return the classes, sorted, so that the order of the rows does not change the model."""
        return tuple(sorted({str(target) for target in targets}))

    def encode(self, targets: Sequence[Target], labels: Sequence[str]) -> Targets:
        """Return the index of each row's class, (N,) int64."""
        index = {label: position for position, label in enumerate(labels)}
        return np.array([index[str(target)] for target in targets], dtype=np.int64)

    def label_name_targets(self, labels: Sequence[str]) -> Sequence[Target]:
        """Return the labels: the name of a class is a row of that class."""
        return labels

    def strata(self, encoded: Targets) -> NDArray[np.int64]:
        """Return the class of each row, (N,)."""
        return encoded

    def supports(self, encoded: Targets, labels: Sequence[str]) -> NDArray[np.int64]:
        """Return the rows per class, (K,)."""
        return np.bincount(encoded, minlength=len(labels)).astype(np.int64)

    def decide(self, probabilities_NK: Floats, thresholds_K: Floats | None) -> NDArray[np.bool_]:  # noqa: ARG002
        """Return the most probable class of each row as a mask, (N, K)."""
        chosen_NK = np.zeros(probabilities_NK.shape, dtype=np.bool_)
        chosen_NK[np.arange(len(chosen_NK)), probabilities_NK.argmax(1)] = True
        return chosen_NK

    def tally(self, encoded: Targets, chosen_NK: NDArray[np.bool_]) -> Tally:
        """Return the tally of the accuracy: 1 for each row whose class is right."""
        return hits(chosen_NK[np.arange(len(encoded)), encoded])

    def majority(self, encoded: Targets, held: Targets) -> NDArray[np.bool_]:
        """Return the most frequent class for every held-out row, as a mask."""
        # A class of few rows may be among the held ones alone.
        classes = max(int(encoded.max()), int(held.max())) + 1
        return np.tile(np.arange(classes) == np.bincount(encoded).argmax(), (len(held), 1))

    def tune_thresholds(self, encoded: Targets, probabilities_NK: Floats) -> Floats | None:  # noqa: ARG002
        """Return None: the most probable class needs no threshold."""
        return None

    def decode(
        self,
        outputs: Sequence[Floats],
        inputs: Sequence[Input],  # noqa: ARG002
        rows: Mapping[int, Any],  # noqa: ARG002
        options: DecodeOptions,
    ) -> list[dict[str, Any]]:
        """`{"label", "score", "top"}`: the most probable label of each input, and the `top_k` best."""
        tops = best_labels(outputs, options.labels, options.top_k)
        return [{"label": top[0]["label"], "score": top[0]["score"], "top": top} for top in tops]
