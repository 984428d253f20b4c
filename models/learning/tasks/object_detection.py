"""object-detection: boxes around what is in a picture. Scored by average precision at an overlap of a half (AP50)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from models.datasets.examples import Box, Input, Target
from models.learning.tasks.task import Chosen, DecodeOptions, Tally, as_objects, hits

_SIDES = ("left", "top", "right", "bottom")


@dataclass(frozen=True, slots=True)
class ObjectDetection:
    """Boxes with labels. Targets stay as they are: tuples of `Box`."""

    name: str = "object-detection"
    metric: str = "ap50"
    scored_labels: Literal["none"] = "none"
    answer_options: frozenset[str] = frozenset({"top_k", "min_score"})

    def bind(self, targets: Sequence[Target]) -> Self:  # noqa: ARG002  (boxes have no scale)
        """Return this task."""
        return self

    def labels(self, targets: Sequence[Target]) -> tuple[str, ...]:
        """Return all labels of boxes, sorted."""
        return tuple(sorted({box.label for target in targets for box in _boxes(target)}))

    def kinds(self, targets: Sequence[Target]) -> int:
        """Return how many pictures differ in their boxes: with one label alone there is something to learn."""
        return len(set(targets))

    def encode(self, targets: Sequence[Target], labels: Sequence[str]) -> NDArray[Any]:  # noqa: ARG002
        """Return the boxes of each picture, (N,) objects."""
        return as_objects(targets)

    def strata(self, encoded: Any) -> NDArray[np.int64]:
        """Return for each picture its label that the fewest pictures have; one more group without boxes."""
        own = [{box.label for box in target} for target in encoded]
        counts = Counter(label for each in own for label in each)
        rank = {label: at for at, label in enumerate(sorted(counts, key=lambda label: (counts[label], label)))}
        ranks = [min((rank[label] for label in each), default=len(rank)) for each in own]
        return np.array(ranks, dtype=np.int64)

    def supports(self, encoded: Any, labels: Sequence[str]) -> NDArray[np.int64]:
        """Return the boxes of each label, (K,)."""
        place = {label: at for at, label in enumerate(labels)}
        count_K = np.zeros(len(labels), dtype=np.int64)
        for target in encoded:
            for box in target:
                count_K[place[box.label]] += 1
        return count_K

    def majority(self, encoded: Any, held: Any) -> Chosen:  # noqa: ARG002
        """Return no box for any picture, which is right where there is none."""
        return np.array([not target for target in held], dtype=np.bool_)

    def tally(self, encoded: Any, chosen: Chosen) -> Tally:  # noqa: ARG002
        """Return the tally of pictures without an error, (N,) bool.

        AP is no sum over pictures: the learner has a tally of its own, `evaluation.average_precision`.
        """
        return hits(np.asarray(chosen, dtype=np.bool_))

    def decode(
        self,
        outputs: Sequence[Any],
        inputs: Sequence[Input],  # noqa: ARG002
        rows: Mapping[int, Any],  # noqa: ARG002
        options: DecodeOptions,
    ) -> list[dict[str, Any]]:
        """Return the boxes of each picture over the score asked for, the surest first.

        Outputs are (M, 6): left, top, right, bottom in the picture's own pixels, score, index of the label.
        """
        least = options.min_score
        if least is None:
            least = options.thresholds[0] if options.thresholds else 0.0
        return [{"boxes": _answer(output_M6, options, least)} for output_M6 in outputs]


def _answer(output_M6: NDArray[np.float32], options: DecodeOptions, least: float) -> list[dict[str, Any]]:
    sure_M6 = output_M6[output_M6[:, 4] >= least][: options.most]
    return [
        {
            "label": options.labels[int(label)],
            "score": score,
            "box": dict(zip(_SIDES, (round(edge, 2) for edge in edges), strict=True)),
        }
        for *edges, score, label in sure_M6.tolist()
    ]


def _boxes(target: Target) -> list[Box]:
    return [box for box in target if isinstance(box, Box)] if isinstance(target, tuple) else []
