"""Which features and how much regularisation: decided by cross-validation, whose held-out answers are kept.

Two stages, because the whole grid would cost more than the rest of the run: the feature sets race at one penalty that
is good almost everywhere (on at most 4,000 rows), then the winner walks to weaker and to stronger penalties from
there, each fit starting from the one before, until it gets worse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.backbones.parallel import in_parallel
from models.learning import calibration, heads
from models.learning.errors import Stopped
from models.learning.folds import splits, stratified_folds, subsample
from models.learning.heads import Floats, Head
from models.learning.tasks.task import Targets, Task

# C of the race. On standardised rows of length 1 it was within a point of the best from 10 to 130 rows per class.
_USUAL = 10.0
_FACTOR = 3.0
_FURTHEST = 3  # steps away from the usual one
_RACE_ROWS = 4_000


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting and how it did on held-out rows."""

    features: str
    inverse_penalty: float
    score: float
    log_loss: float  # at its best temperature
    rows: int


@dataclass(frozen=True, slots=True)
class Choice:
    """The winner: which features, which penalty, what it answered out of fold, and all that was tried."""

    features: str
    names: tuple[str, ...]
    inverse_penalty: float
    fold_N: NDArray[np.int64]
    logits_NK: Floats  # out of fold
    temperature: float
    trials: list[Trial] = field(default_factory=list)


def choose(
    features: Mapping[str, Floats],
    sets: Mapping[str, tuple[str, ...]],
    targets: Targets,
    task: Task,
    *,
    outputs: int,
    seed: int,
    inverse_penalty: float | None = None,
    device: torch.device,
    threads: int,
    stop: Callable[[], bool],
) -> Choice:
    """Pick from `sets` and from the penalties (or only from the sets, at `inverse_penalty`)."""
    strata_N = task.strata(targets)
    trials: list[Trial] = []
    usual = inverse_penalty or _USUAL
    race = list(sets)
    if len(race) > 1:
        rows = subsample(strata_N, _RACE_ROWS, seed=seed)
        fold_N = stratified_folds(strata_N[rows], 3, seed=seed)
        for name in race:
            bench = _Bench(
                heads.stack({key: features[key][rows] for key in sets[name]}, sets[name]),
                targets=targets[rows],
                task=task,
                outputs=outputs,
                fold_N=fold_N,
                device=device,
                threads=threads,
                stop=stop,
            )
            trials.append(bench.run(name, usual)[0])
        best = _best(trials).features
    else:
        best = race[0]
    names = sets[best]
    fold_N = stratified_folds(strata_N, 5 if len(targets) <= _RACE_ROWS else 3, seed=seed)
    bench = _Bench(
        heads.stack(features, names),
        targets=targets,
        task=task,
        outputs=outputs,
        fold_N=fold_N,
        device=device,
        threads=threads,
        stop=stop,
    )
    walked = [bench.run(best, usual)]
    for factor in () if inverse_penalty else (_FACTOR, 1 / _FACTOR):
        for step in range(1, _FURTHEST + 1):
            walked.append(bench.run(best, usual * factor**step))
            if _best([trial for trial, _, _ in walked]) is not walked[-1][0]:
                break
    winner = _best([trial for trial, _, _ in walked])
    trial, logits_NK, temperature = next(entry for entry in walked if entry[0] is winner)
    return Choice(
        best, names, trial.inverse_penalty, fold_N, logits_NK, temperature, trials + [entry[0] for entry in walked]
    )


def fit_final(
    features: Mapping[str, Floats],
    names: Sequence[str],
    targets: Targets,
    task: Task,
    *,
    outputs: int,
    inverse_penalty: float,
    device: torch.device,
) -> Head:
    """The head on all rows."""
    return heads.fit_head(
        heads.stack(features, names),
        torch.from_numpy(targets).to(device),
        task.link,
        outputs=outputs,
        inverse_penalty=inverse_penalty,
    )


class _Bench:
    """One feature set, prepared once; each run fits every fold, starting where the last penalty ended."""

    def __init__(
        self,
        features_NF: Floats,
        *,
        targets: Targets,
        task: Task,
        outputs: int,
        fold_N: NDArray[np.int64],
        device: torch.device,
        threads: int,
        stop: Callable[[], bool],
    ) -> None:
        # The rotation sees the held-out rows' features, never their targets; it changes no solution.
        self._design = heads.prepare(features_NF, device=device)
        self._targets, self._task, self._outputs, self._stop = targets, task, outputs, stop
        self._threads = threads
        self._encoded = torch.from_numpy(targets).to(device)
        self._splits = splits(fold_N)
        self._warm: list[Tensor | None] = [None] * len(self._splits)

    def run(self, name: str, inverse_penalty: float) -> tuple[Trial, Floats, float]:
        """The trial, its out-of-fold logits and their best temperature."""
        logits_NK = np.empty((len(self._targets), self._outputs), dtype=np.float32)

        def fit_fold(fold: int) -> None:
            if self._stop():
                raise Stopped
            train, held = self._splits[fold]
            weights = heads.fit(
                self._design.rows(train),
                self._encoded[torch.from_numpy(train).to(self._encoded.device)],
                self._task.link,
                outputs=self._outputs,
                inverse_penalty=inverse_penalty,
                variance_R=self._design.variance_R,
                start=self._warm[fold],
            )
            self._warm[fold] = weights
            logits_NK[held] = (self._design.rows(held) @ weights[:, :-1].T + weights[:, -1]).cpu().numpy()

        for _ in in_parallel(fit_fold, range(len(self._splits)), threads=self._threads):
            pass
        link = self._task.link
        temperature = calibration.fit_temperature(logits_NK, self._targets, link)
        loss = calibration.log_loss(logits_NK, self._targets, link, temperature)
        chosen_NK = self._task.decide(calibration.probabilities(logits_NK, link, temperature), None)
        score = self._task.tally(self._targets, chosen_NK).score
        return Trial(name, inverse_penalty, score, loss, len(self._targets)), logits_NK, temperature


def _best(trials: Sequence[Trial]) -> Trial:
    """The least loss among those whose score is as good as the best one's, up to half a standard error.

    The score decides, but on few rows it is noise to a tenth of a point; the loss sees every row's margin.
    """
    top = max(trial.score for trial in trials)
    noise = 0.5 * (max(top * (1 - top), 0.01) / trials[0].rows) ** 0.5
    return min((trial for trial in trials if trial.score >= top - noise), key=lambda trial: trial.log_loss)


def describe(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """For the report."""
    return [
        {
            "features": trial.features,
            "regularization": 1.0 / trial.inverse_penalty,
            "score": trial.score,
            "log_loss": trial.log_loss,
            "rows": trial.rows,
        }
        for trial in trials
    ]
