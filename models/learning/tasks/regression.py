"""A value per row, of a text or of two together: squared loss on standardised targets, Pearson's correlation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.datasets.examples import Input, Target
from models.learning.tasks.link_functions import IDENTITY, LinkFunction
from models.learning.tasks.task import Chosen, DecodeOptions, Floats, Tally, Targets
from models.learning.tasks.whole_rows import WholeRows

_STRATA = 10  # folds see every tenth of the range of values alike
_LEAST_SQUARED = 1e-140  # squares of what is smaller lose digits, or are 0
_COVERED = 0.9  # share of held-out rows whose value lies between an answer's `low` and `high`


@dataclass(frozen=True, slots=True)
class Regression(WholeRows):
    """Regression on one value. Targets: (N, 1) float32, standardised by the training rows once the task is bound."""

    name: str = "text-regression"
    metric: str = "pearson"
    link: LinkFunction = IDENTITY
    scale: tuple[float, float] = (0.0, 1.0)
    scored_labels: Literal["none"] = "none"
    answer_options: frozenset[str] = frozenset()

    def bind(self, targets: Sequence[Target]) -> Regression:
        """Take mean and deviation of the training targets for the scale: one learning rate suits every unit."""
        return Regression(self.name, self.metric, self.link, _mean_and_deviation(_values(targets)))

    def labels(self, targets: Sequence[Target]) -> tuple[str, ...]:  # noqa: ARG002
        """Return (): values are no labels."""
        return ()

    def outputs(self, labels: Sequence[str]) -> int:  # noqa: ARG002
        """Return 1: the value."""
        return 1

    def kinds(self, targets: Sequence[Target]) -> int:
        """Return how many different values there are."""
        return len(np.unique(_values(targets)))

    def encode(self, targets: Sequence[Target], labels: Sequence[str]) -> Targets:  # noqa: ARG002
        """Return standardised values, (N, 1) float32: zero mean and unit variance over the training rows."""
        offset, factor = self.scale
        return ((_values(targets) - offset) / factor).astype(np.float32)[:, None]

    def align(self, encoded: Targets, rows: Sequence[Any]) -> Targets:  # noqa: ARG002
        """Return the targets as they are: one per row."""
        return encoded

    def label_name_targets(self, labels: Sequence[str]) -> None:
        """Return None: values have no names."""

    def strata(self, encoded: Targets) -> NDArray[np.int64]:
        """Return the tenth of all rows, by value, in which each row lies, (N,)."""
        ranks_N = np.argsort(np.argsort(encoded[:, 0], kind="stable"), kind="stable")
        strata_N: NDArray[np.int64] = ranks_N * _STRATA // max(len(encoded), 1)
        return strata_N

    def supports(self, encoded: Targets, labels: Sequence[str]) -> NDArray[np.int64]:  # noqa: ARG002
        """Return an empty array: there are no labels."""
        return np.empty(0, dtype=np.int64)

    def decide(self, probabilities_NK: Floats, thresholds_K: Floats | None) -> Chosen:  # noqa: ARG002
        """Return the values as they are, (N, 1)."""
        return probabilities_NK

    def majority(self, encoded: Targets, held: Targets) -> Chosen:
        """Return the mean of the training targets for every held-out row."""
        return np.full((len(held), 1), encoded.mean(), dtype=np.float32)

    def tally(self, encoded: Targets, chosen: Chosen) -> Tally:
        """Return the moments of which a correlation is made: 1, x, y, x², y², xy."""
        y_N, x_N = encoded[:, 0].astype(np.float64), chosen[:, 0].astype(np.float64)
        parts_NJ = np.stack([np.ones_like(x_N), x_N, y_N, x_N * x_N, y_N * y_N, x_N * y_N], axis=1)
        return Tally(parts_NJ, _pearson, least=-1.0)

    def figures(
        self,
        encoded: Targets,
        probabilities_NK: Floats,  # noqa: ARG002
        chosen: Chosen,
        labels: Sequence[str],  # noqa: ARG002
    ) -> dict[str, Any]:
        """Return errors in the customer's unit, correlations and the share of variance that is explained."""
        factor = self.scale[1]
        y_N, x_N = encoded[:, 0].astype(np.float64), chosen[:, 0].astype(np.float64)
        error_N, spread = x_N - y_N, float(np.square(y_N - y_N.mean()).sum())
        ranked = self.tally(_ranks(y_N)[:, None], _ranks(x_N)[:, None])
        return {
            "regression": {
                "rmse": factor * float(np.sqrt(np.square(error_N).mean())),
                "mae": factor * float(np.abs(error_N).mean()),
                "pearson": self.tally(encoded, chosen).score,
                "spearman": ranked.score,
                "r2": 1.0 - float(np.square(error_N).sum()) / spread if spread else 0.0,
            }
        }

    def tune_thresholds(self, encoded: Targets, probabilities_NK: Floats) -> Floats | None:
        """Return the error that nine values of ten stay below, (1,), standardised like the values."""
        error_N = np.abs(encoded[:, 0] - probabilities_NK[:, 0])
        # One row more than there are, as if the next one had been among them: then the share holds for new rows.
        rank = min(int(np.ceil(_COVERED * (len(error_N) + 1))), len(error_N)) - 1
        return np.array([np.sort(error_N)[rank]], dtype=np.float32)

    def decode(
        self,
        outputs: Sequence[Floats],
        inputs: Sequence[Input],  # noqa: ARG002
        rows: Mapping[int, Any],  # noqa: ARG002
        options: DecodeOptions,
    ) -> list[dict[str, Any]]:
        """Return `{"value", "low", "high"}` per input, the value alone where no interval is known.

        In double precision: a mean may be a million times what the values differ by.
        """
        offset, factor = options.scale
        values = [offset + factor * float(output[0]) for output in outputs]
        if not options.thresholds:
            return [{"value": value} for value in values]
        reach = factor * float(np.float32(options.thresholds[0]))
        return [{"value": value, "low": value - reach, "high": value + reach} for value in values]


def _values(targets: Sequence[Target]) -> NDArray[np.float64]:
    return np.array(targets, dtype=np.float64)


def _mean_and_deviation(values_N: NDArray[np.float64]) -> tuple[float, float]:
    """Return mean and standard deviation, 1 where values do not differ; squares of small differences are not 0."""
    centred_N = values_N - values_N.mean()
    largest = float(np.abs(centred_N).max(initial=0.0))
    deviation = float(values_N.std())
    if deviation < _LEAST_SQUARED and largest:
        deviation = largest * float((centred_N / largest).std())
    return float(values_N.mean()), deviation or 1.0


def _pearson(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Pearson's correlation; 0 where one of both does not vary."""
    rows, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    x_spread, y_spread = rows * xx - x * x, rows * yy - y * y
    varies = (x_spread > 1e-9 * rows * xx) & (y_spread > 1e-9 * rows * yy)
    together = np.sqrt(np.where(varies, x_spread * y_spread, 1.0))
    correlation: NDArray[np.float64] = np.where(varies, (rows * xy - x * y) / together, 0.0)
    return np.clip(correlation, -1.0, 1.0)


def _ranks(values_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks from -1 to 1; equal values share their mean rank."""
    _, index_N, counts = np.unique(values_N, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks_N: NDArray[np.float64] = (last - (counts - 1) / 2)[index_N]
    return ranks_N * 2 / (len(values_N) + 1) - 1
