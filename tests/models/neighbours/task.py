"""The toy's task: a text and its label in, the training row that is nearest out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from models.datasets.examples import Input
from models.datasets.tasks.single_label import TEXT_CLASSIFICATION, parse
from models.datasets.tasks.task import Task
from models.learning.tasks.task import DecodeOptions

NEAREST_ROW = Task("nearest-row", "text", "neighbours", (("text", "label"),), parse, TEXT_CLASSIFICATION.census)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The output for one text: a training row."""

    text: str
    label: int
    similarity: float


@dataclass(frozen=True, slots=True)
class NearestRow:
    """How its answers read."""

    name: str = NEAREST_ROW.name
    scored_labels: Literal["none"] = "none"

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
