"""From held-out logits to what can be said about a model: calibration, thresholds, score, who was right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.learning import calibration, evaluation
from models.learning.evaluation import Score
from models.learning.folds import splits
from models.learning.tasks.task import Floats, Tally, Targets, Task


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Rows on which models are measured. `fold_N`: their folds, if several models answered for one another's rows."""

    targets: Targets
    fold_N: NDArray[np.int64] | None
    validated: bool = False  # a validation file; else rows of the training file that were held out


@dataclass(frozen=True, slots=True)
class Assessment:
    """One model on held-out rows."""

    temperature: float
    thresholds: Floats | None
    probabilities_NK: Floats
    chosen_NK: NDArray[np.bool_]
    tally: Tally
    score: Score

    def describe(self, held: HeldOut, task: Task, labels: Sequence[str]) -> dict[str, Any]:
        """The report's figures on these rows."""
        return {
            "metric": task.metric,
            "score": self.score.value,
            "score_low": self.score.low,
            "score_high": self.score.high,
            "measured_on": "validation_file" if held.validated else "held_out_training_rows",
            "measured_rows": len(held.targets),
            "per_class": evaluation.per_class(task, held.targets, self.chosen_NK, labels),
            "confusion": evaluation.confusion(held.targets, self.chosen_NK, labels),
            "calibration": {
                "temperature": self.temperature,
                "ece": evaluation.expected_calibration_error(held.targets, self.probabilities_NK),
            },
        }


def assess(
    logits_NK: Floats,
    held: HeldOut,
    task: Task,
    *,
    seed: int,
    tuned_on: tuple[Floats, HeldOut] | None = None,
) -> Assessment:
    """Measure held-out logits.

    Temperature and thresholds come from `tuned_on` (logits, rows) if it is given, else from these rows: the temperature
    from all of them (one number cannot overfit), the thresholds that are scored from the other folds.
    """
    tuning_logits, tuning = tuned_on or (logits_NK, held)
    temperature = calibration.fit_temperature(tuning_logits, tuning.targets, task.link)
    tuning_probabilities = calibration.probabilities(tuning_logits, task.link, temperature)
    thresholds = task.tune_thresholds(tuning.targets, tuning_probabilities)
    probabilities_NK = calibration.probabilities(logits_NK, task.link, temperature)
    if thresholds is not None and tuned_on is None and held.fold_N is not None:
        chosen_NK = np.zeros(probabilities_NK.shape, dtype=np.bool_)
        for rest, fold in splits(held.fold_N):
            other = task.tune_thresholds(held.targets[rest], probabilities_NK[rest])
            chosen_NK[fold] = task.decide(probabilities_NK[fold], other)
    else:
        chosen_NK = task.decide(probabilities_NK, thresholds)
    tally = task.tally(held.targets, chosen_NK)
    return Assessment(temperature, thresholds, probabilities_NK, chosen_NK, tally, evaluation.score(tally, seed=seed))
