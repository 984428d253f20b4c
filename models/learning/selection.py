"""Which features, which regularisation, with label names or without: decided by cross-validation.

In stages, because the whole grid would cost more than the rest of the run: the feature sets race at one penalty that is
good almost everywhere (on at most 4,000 rows), then the winner walks to weaker and to stronger penalties from there,
each fit starting from the one before, until it gets worse. Where rows are few, each label's name is tried as one more
row of its class: on 10 rows per class of 77 intents it was worth 0.7 points. The held-out answers are kept.
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
from models.learning import features as frozen
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
class Table:
    """Plain features by name, (N, D) each, and targets."""

    features: Mapping[str, Floats]
    targets: Targets

    def take(self, rows: NDArray[np.int64]) -> Table:
        """Some rows of it."""
        return Table({name: values[rows] for name, values in self.features.items()}, self.targets[rows])

    def under(self, other: Table) -> Table:
        """The rows of `other` below these."""
        return Table(
            {name: np.concatenate([values, other.features[name]]) for name, values in self.features.items()},
            np.concatenate([self.targets, other.targets]),
        )


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting and how it did on held-out rows."""

    features: str
    inverse_penalty: float
    label_names: bool
    score: float
    log_loss: float  # at its best temperature
    rows: int


@dataclass(frozen=True, slots=True)
class Choice:
    """The winner: which features, which penalty, what it answered out of fold, and all that was tried."""

    features: str
    names: tuple[str, ...]
    inverse_penalty: float
    label_names: bool
    fold_N: NDArray[np.int64]
    logits_NK: Floats  # out of fold
    trials: list[Trial] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Setting:
    """What every fit of the search shares."""

    task: Task
    outputs: int
    device: torch.device
    threads: int
    stop: Callable[[], bool]


def choose(
    table: Table,
    label_names: Table | None,
    sets: Mapping[str, tuple[str, ...]],
    setting: Setting,
    *,
    seed: int,
    inverse_penalty: float | None = None,
) -> Choice:
    """Pick from `sets`, from the penalties (unless `inverse_penalty` says which), with `label_names` or without."""
    strata_N = setting.task.strata(table.targets)
    usual = inverse_penalty or _USUAL
    trials: list[Trial] = []
    best = next(iter(sets))
    if len(sets) > 1:
        rows = subsample(strata_N, _RACE_ROWS, seed=seed)
        fold_N = stratified_folds(strata_N[rows], 3, seed=seed)
        for name, names in sets.items():
            trials.append(_Bench(table.take(rows), None, name, names, fold_N, setting).run(usual)[0])
        best = _best(trials, usual_first=True).features
    fold_N = stratified_folds(strata_N, 5 if len(strata_N) <= _RACE_ROWS else 3, seed=seed)
    bench = _Bench(table, None, best, sets[best], fold_N, setting)
    walked = [bench.run(usual)]
    if label_names is not None:
        named = _Bench(table, label_names, best, sets[best], fold_N, setting)
        walked.append(named.run(usual))
        if _best([trial for trial, _ in walked]) is walked[-1][0]:
            bench = named
    for factor in () if inverse_penalty else (_FACTOR, 1 / _FACTOR):
        for step in range(1, _FURTHEST + 1):
            walked.append(bench.run(usual * factor**step))
            if _best([trial for trial, _ in walked]) is not walked[-1][0]:
                break
    winner = _best([trial for trial, _ in walked])
    return Choice(
        features=best,
        names=sets[best],
        inverse_penalty=winner.inverse_penalty,
        label_names=winner.label_names,
        fold_N=fold_N,
        logits_NK=next(logits_NK for trial, logits_NK in walked if trial is winner),
        trials=[*trials, *(trial for trial, _ in walked)],
    )


def fit_final(table: Table, label_names: Table | None, choice: Choice, setting: Setting) -> Head:
    """The chosen head on all rows of `table`, with the label names if they were chosen."""
    if choice.label_names and label_names is not None:
        table = table.under(label_names)
    return heads.fit_head(
        frozen.derive(table.features, choice.names),
        torch.from_numpy(table.targets).to(setting.device),
        setting.task.link,
        outputs=setting.outputs,
        inverse_penalty=choice.inverse_penalty,
    )


class _Bench:
    """One feature set, prepared once; each run fits every fold, starting where the last penalty ended."""

    def __init__(  # noqa: PLR0917
        self,
        table: Table,
        label_names: Table | None,
        name: str,
        names: Sequence[str],
        fold_N: NDArray[np.int64],
        setting: Setting,
    ) -> None:
        self._name, self._named, self._setting = name, label_names is not None, setting
        self._targets = table.targets
        if label_names is not None:
            table = table.under(label_names)
        # The rotation sees the held-out rows' features, never their targets; it changes no solution.
        self._design = heads.prepare(frozen.derive(table.features, names), device=setting.device)
        self._encoded = torch.from_numpy(table.targets).to(setting.device)
        always = np.arange(len(self._targets), len(table.targets))  # label names are never held out
        self._splits = [(np.concatenate([train, always]), held) for train, held in splits(fold_N)]
        self._warm: list[Tensor | None] = [None] * len(self._splits)

    def run(self, inverse_penalty: float) -> tuple[Trial, Floats]:
        """The trial and its out-of-fold logits."""
        setting, task, link = self._setting, self._setting.task, self._setting.task.link
        logits_NK = np.empty((len(self._targets), setting.outputs), dtype=np.float32)

        def fit_fold(fold: int) -> None:
            if setting.stop():
                raise Stopped
            train, held = self._splits[fold]
            weights = heads.fit(
                self._design.rows(train),
                self._encoded[torch.from_numpy(train).to(setting.device)],
                link,
                outputs=setting.outputs,
                inverse_penalty=inverse_penalty,
                variance_R=self._design.variance_R,
                start=self._warm[fold],
            )
            self._warm[fold] = weights
            logits_NK[held] = (self._design.rows(held) @ weights[:, :-1].T + weights[:, -1]).cpu().numpy()

        for _ in in_parallel(fit_fold, range(len(self._splits)), threads=setting.threads):
            pass
        temperature = calibration.fit_temperature(logits_NK, self._targets, link)
        loss = calibration.log_loss(logits_NK, self._targets, link, temperature)
        chosen_NK = task.decide(calibration.probabilities(logits_NK, link, temperature), None)
        score = task.tally(self._targets, chosen_NK).score
        return Trial(self._name, inverse_penalty, self._named, score, loss, len(self._targets)), logits_NK


def _best(trials: Sequence[Trial], *, usual_first: bool = False) -> Trial:
    """The least loss among those whose score is as good as the best one's, up to half a standard error.

    The score decides, but on few rows it is noise to a tenth of a point; the loss sees every row's margin. With
    `usual_first` the first trial wins unless another one's loss is clearly less: on few rows the race cannot tell.
    """
    top = max(trial.score for trial in trials)
    noise = (max(top * (1 - top), 0.01) / trials[0].rows) ** 0.5
    first = trials[0]
    best = min((trial for trial in trials if trial.score >= top - 0.5 * noise), key=lambda trial: trial.log_loss)
    if usual_first and first.score >= top - noise and first.log_loss <= best.log_loss * (1 + first.rows**-0.5):
        return first
    return best


def describe(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """For the report."""
    return [
        {
            "features": trial.features,
            "regularization": 1.0 / trial.inverse_penalty,
            "label_names": trial.label_names,
            "score": trial.score,
            "log_loss": trial.log_loss,
            "rows": trial.rows,
        }
        for trial in trials
    ]
