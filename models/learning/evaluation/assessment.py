"""Assessment of held-out logits: calibration, thresholds, score, and which rows are right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.learning.data.folds import splits
from models.learning.data.ragged import units
from models.learning.evaluation import calibration, scores
from models.learning.evaluation.scores import Evaluation, Score
from models.learning.tasks.task import Chosen, EncoderTask, Floats, Tally


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Rows on which models are measured. `fold_N`: their folds, if several models answered for one another's rows."""

    targets: Any  # Targets, or Ragged
    fold_N: NDArray[np.int64] | None
    validated: bool = False  # a validation file; else rows of the training file that were held out
    rows_N: NDArray[np.int64] | None = None  # their positions in that file's corpus; None: all of it, in order
    group_N: NDArray[np.int64] | None = None  # their groups, which an interval counts as one; None: each stands alone
    learned_from: int = 0  # rows that each fold's model learned from; 0: the model is not one of several on one file

    @classmethod
    def out_of_fold(cls, targets: Any, fold_N: NDArray[np.int64], group_N: NDArray[np.int64] | None) -> HeldOut:
        """Return all rows of a file, each answered by a model that learned from the other folds."""
        folds = int(fold_N.max()) + 1
        return cls(targets, fold_N, group_N=group_N, learned_from=len(fold_N) - len(fold_N) // folds)

    @property
    def spread(self) -> float:
        """How many times as wide the interval of a score is as that of rows drawn anew.

        Models of other folds learned from the same rows, so that their scores err together, and rows to come are
        answered by a model of another sample: the variance is (1/J + n_test/n_train) of a fold's instead of 1/J
        (Nadeau and Bengio, Machine Learning 52, 2003). Of five folds that is 1.5 times the width.
        """
        return math.sqrt(1.0 + len(self.targets) / self.learned_from) if self.learned_from else 1.0

    @property
    def positions(self) -> NDArray[np.int64]:
        """Where the rows are in their corpus."""
        return np.arange(len(self.targets)) if self.rows_N is None else self.rows_N


@dataclass(frozen=True, slots=True)
class Assessment:
    """One model on held-out rows."""

    temperature: float
    thresholds: Floats | None
    probabilities_NK: Floats
    chosen: Chosen
    tally: Tally
    score: Score  # its interval is that of rows drawn anew, by which models on the same rows are told apart
    interval: Score  # … and the one that holds the score on rows to come

    def evaluation(self, held: HeldOut, task: EncoderTask, labels: Sequence[str]) -> Evaluation:
        """Return what a report and an artifact hold of it; `held` are the rows it was measured on."""
        figures = task.figures(held.targets, self.probabilities_NK, self.chosen, labels)
        calibration = figures.pop("calibration", None)
        measured = scores.describe(self.interval, metric=task.metric, rows=len(held.targets), validated=held.validated)
        if calibration:
            measured["calibration"] = {"temperature": self.temperature, **calibration}
        thresholds = None if self.thresholds is None else tuple(float(value) for value in self.thresholds)
        return Evaluation(self.interval, {**measured, **figures}, self.temperature, thresholds)


def assess(
    logits_NK: Floats,
    held: HeldOut,
    task: EncoderTask,
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
        parts = []
        for rest, fold in splits(held.fold_N):
            others, own = units(held.targets, rest), units(held.targets, fold)
            other = task.tune_thresholds(held.targets[rest], probabilities_NK[others])
            parts.append((own, task.decide(probabilities_NK[own], other)))
        chosen = np.concatenate([part for _, part in parts])[np.argsort(np.concatenate([fold for fold, _ in parts]))]
    else:
        chosen = task.decide(probabilities_NK, thresholds)
    tally = task.tally(held.targets, chosen)
    score = scores.score(tally.by_group(held.group_N), seed=seed)
    return Assessment(
        temperature, thresholds, probabilities_NK, chosen, tally, score, score.widened(held.spread, least=tally.least)
    )
