"""The toy's task: a text and its label in, the training row that is nearest out. No link function, no logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from models.datasets.examples import Input, Target
from models.datasets.tasks.single_label import TEXT_CLASSIFICATION, parse
from models.datasets.tasks.task import Task
from models.learning.tasks.task import DecodeOptions, Tally, Targets, hits

NEAREST_ROW = Task("nearest-row", "text", "neighbours", (("text", "label"),), parse, TEXT_CLASSIFICATION.statistics)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The output for one text: a training row."""

    text: str
    label: int
    similarity: float


@dataclass(frozen=True, slots=True)
class NearestRow:
    """How its targets are read and its answers are scored and read. Chosen: the label of the found row, (N,)."""

    name: str = NEAREST_ROW.name
    metric: str = "accuracy"
    scored_labels: Literal["none"] = "none"
    answer_options: frozenset[str] = frozenset()

    def bind(self, targets: Sequence[Target]) -> Self:
        """There is nothing to know before labels are encoded."""
        return self

    def labels(self, targets: Sequence[Target]) -> tuple[str, ...]:
        """Sorted."""
        return tuple(sorted({str(target) for target in targets}))

    def kinds(self, targets: Sequence[Target]) -> int:
        """Labels."""
        return len(set(targets))

    def encode(self, targets: Sequence[Target], labels: Sequence[str]) -> Targets:
        """(N,) int64."""
        return np.array([labels.index(str(target)) for target in targets], dtype=np.int64)

    def strata(self, encoded: Targets) -> NDArray[np.int64]:
        """The label itself."""
        return encoded

    def supports(self, encoded: Targets, labels: Sequence[str]) -> NDArray[np.int64]:
        """Rows per label."""
        return np.bincount(encoded, minlength=len(labels)).astype(np.int64)

    def majority(self, encoded: Targets, held: Targets) -> Targets:
        """The most frequent label."""
        return np.full(len(held), np.bincount(encoded).argmax())

    def tally(self, encoded: Targets, chosen: Targets) -> Tally:
        """1 where the found row has the right label."""
        return hits(encoded == chosen)

    def decode(
        self,
        outputs: Sequence[Neighbour],
        inputs: Sequence[Input],
        rows: Mapping[int, Any],
        options: DecodeOptions,
    ) -> list[dict[str, Any]]:
        """`{"label", "row", "similarity"}`."""
        return [
            {"label": options.labels[output.label], "row": output.text, "similarity": output.similarity}
            for output in outputs
        ]
