"""text-generation: answers in words. Scored by how probable the held-out answers are, token by token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from models.datasets.examples import Input, Target
from models.learning.tasks.task import Chosen, DecodeOptions, Tally, as_objects, hits


@dataclass(frozen=True, slots=True)
class TextGeneration:
    """Answers that a model writes. Targets stay as they are: texts."""

    name: str = "text-generation"
    metric: str = "token_probability"
    scored_labels: Literal["none"] = "none"
    answer_options: frozenset[str] = frozenset()

    def bind(self, targets: Sequence[Target]) -> Self:  # noqa: ARG002  (texts have no scale)
        """Return this task."""
        return self

    def labels(self, targets: Sequence[Target]) -> tuple[str, ...]:  # noqa: ARG002
        """Return none."""
        return ()

    def kinds(self, targets: Sequence[Target]) -> int:
        """Return how many different answers there are."""
        return len(set(targets))

    def encode(self, targets: Sequence[Target], labels: Sequence[str]) -> NDArray[Any]:  # noqa: ARG002
        """Return the answers, (N,) objects."""
        return as_objects(targets)

    def strata(self, encoded: Any) -> NDArray[np.int64]:
        """Return one group for all rows."""
        return np.zeros(len(encoded), dtype=np.int64)

    def supports(self, encoded: Any, labels: Sequence[str]) -> NDArray[np.int64]:  # noqa: ARG002
        """Return the rows of each label: there are no labels."""
        return np.zeros(0, dtype=np.int64)

    def majority(self, encoded: Any, held: Any) -> Chosen:  # noqa: ARG002
        """Return no answer: the same text for every row is no answer to any."""
        return np.zeros((len(held), 0), dtype=np.float32)

    def tally(self, encoded: Any, chosen: Chosen) -> Tally:  # noqa: ARG002
        """Return the tally of (N, 2) sums of log-probabilities and counts of tokens; of pairs, of which one won."""
        if chosen.dtype == np.bool_:
            return hits(chosen[:, 0])
        return Tally(np.asarray(chosen, dtype=np.float64), _mean_probability)

    def decode(
        self,
        outputs: Sequence[Any],
        inputs: Sequence[Input],  # noqa: ARG002
        rows: Mapping[int, Any],  # noqa: ARG002
        options: DecodeOptions,  # noqa: ARG002
    ) -> list[dict[str, Any]]:
        """Return each answer as the API gives it."""
        return [{"text": str(output)} for output in outputs]


def _mean_probability(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the geometric mean of the tokens' probabilities, the inverse of the perplexity."""
    mean: NDArray[np.float64] = np.exp(sums[..., 0] / np.maximum(sums[..., 1], 1.0))
    return mean
