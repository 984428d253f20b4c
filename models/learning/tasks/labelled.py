"""Methods that tasks share whose targets are labels of a whole row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from numpy.typing import NDArray

from models.datasets.examples import Target
from models.learning.tasks import class_figures
from models.learning.tasks.task import EncoderTask, Floats, Targets
from models.learning.tasks.whole_rows import WholeRows


@dataclass(frozen=True, slots=True)
class Labelled(WholeRows):
    """One vector and one logit per label for each row. Labels have no scale."""

    scale: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def bind(self, targets: Sequence[Target]) -> Self:  # noqa: ARG002
        """Return the task itself: labels have no scale."""
        return self

    def outputs(self, labels: Sequence[str]) -> int:
        """Return one logit per label."""
        return len(labels)

    def kinds(self: EncoderTask, targets: Sequence[Target]) -> int:
        """Return how many labels there are."""
        return len(self.labels(targets))

    def align(self, encoded: Targets, rows: Sequence[Any]) -> Targets:  # noqa: ARG002
        """Return the targets as they are: one per row."""
        return encoded

    def figures(
        self, encoded: Targets, probabilities_NK: Floats, chosen: NDArray[Any], labels: Sequence[str]
    ) -> dict[str, Any]:
        """Return the figures of `class_figures.describe`."""
        return class_figures.describe(encoded, probabilities_NK, chosen, labels)
