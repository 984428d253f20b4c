"""What a task is to learning: how targets are read, which link and metric, what a decision is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.datasets.examples import Target
from models.learning.links import Link

Floats = NDArray[np.float32]
Targets = NDArray[Any]  # (N,) int64 for one label, (N, K) float32 of 0 and 1 for several


@dataclass(frozen=True, slots=True)
class Tally:
    """What each row adds to the metric: score = Σ gained / Σ possible. Any subset and any resample has a score."""

    gained_N: NDArray[np.float64]
    possible_N: NDArray[np.float64]

    @property
    def score(self) -> float:
        """The metric over all rows, 0 to 1."""
        return float(self.gained_N.sum() / max(self.possible_N.sum(), 1e-12))

    def take(self, rows: NDArray[np.int64]) -> Tally:
        """The tally of some rows."""
        return Tally(self.gained_N[rows], self.possible_N[rows])


class Task(Protocol):
    """One way to learn from rows; a new one is a new file in this folder and a line in its table."""

    @property
    def name(self) -> str:
        """As in a job's `task`."""

    @property
    def metric(self) -> str:
        """Name of the score."""

    @property
    def multiple(self) -> bool:
        """Whether a row may have several labels: its target is a tuple of them."""

    @property
    def link(self) -> Link:
        """From logits to probabilities, and the loss."""

    def labels(self, targets: Sequence[Target]) -> tuple[str, ...]:
        """All labels, in the order of the outputs."""

    def encode(self, targets: Sequence[Target], labels: Sequence[str]) -> Targets:
        """Targets as numbers; raises KeyError with the first unknown label."""

    def strata(self, encoded: Targets) -> NDArray[np.int64]:
        """A group per row (N,), for stratified folds."""

    def supports(self, encoded: Targets, labels: Sequence[str]) -> NDArray[np.int64]:
        """Rows per label, (K,)."""

    def decide(self, probabilities_NK: Floats, thresholds_K: Floats | None) -> NDArray[np.bool_]:
        """The chosen labels as a mask, (N, K)."""

    def tally(self, encoded: Targets, chosen_NK: NDArray[np.bool_]) -> Tally:
        """Each row's part in the metric."""

    def tune_thresholds(self, encoded: Targets, probabilities_NK: Floats) -> Floats | None:
        """Thresholds (K,) that serve best on held-out probabilities, None if the task has none."""

    def decode(
        self, probabilities_K: Floats, labels: Sequence[str], thresholds_K: Floats | None, top_k: int
    ) -> dict[str, Any]:
        """One row's prediction as the API answers it."""


def best_labels(probabilities_K: Floats, labels: Sequence[str], top_k: int) -> list[dict[str, Any]]:
    """The `top_k` most probable labels; equal ones in the order of the labels."""
    order = np.argsort(-probabilities_K, kind="stable")[:top_k]
    return [{"label": labels[index], "score": float(probabilities_K[index])} for index in order]
