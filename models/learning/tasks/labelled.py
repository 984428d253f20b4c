"""Methods that tasks share whose targets are labels of a whole row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from numpy.typing import NDArray

from models.backbones.backbone import Backbone
from models.datasets.examples import Input, Target
from models.learning.tasks import class_figures, pairs
from models.learning.tasks.task import EncoderTask, Floats, Targets


@dataclass(frozen=True, slots=True)
class Labelled:
    """One vector and one logit per label for each row. Labels have no scale."""

    scale: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def bind(self, targets: Sequence[Target]) -> Self:  # noqa: ARG002
        """There is nothing to know before labels are encoded."""
        return self

    def view(self, backbone: Backbone, inputs: Sequence[Input]) -> Backbone:
        """One vector per row, of two texts that are compared where rows are pairs. Raises UnevenPairs."""
        return pairs.view(backbone, inputs)

    def outputs(self, labels: Sequence[str]) -> int:
        """One per label."""
        return len(labels)

    def kinds(self: EncoderTask, targets: Sequence[Target]) -> int:
        """Labels."""
        return len(self.labels(targets))

    def align(self, encoded: Targets, rows: Sequence[Any]) -> Targets:  # noqa: ARG002
        """One target per row."""
        return encoded

    def figures(
        self, encoded: Targets, probabilities_NK: Floats, chosen: NDArray[Any], labels: Sequence[str]
    ) -> dict[str, Any]:
        """See `class_figures`."""
        return class_figures.describe(encoded, probabilities_NK, chosen, labels)
