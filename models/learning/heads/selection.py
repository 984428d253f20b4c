"""Choice of features, of the regularisation, and of label names as rows, by cross-validation.

In stages, because the whole grid would cost more than the rest of the run: the feature sets are compared at one penalty
that is good almost everywhere (on at most 4,000 rows), then weaker and stronger penalties are tried for the best one,
each fit starting from the one before, until it gets worse. The mean of two heads, which is one linear head on the
features of both, is compared too: on all rows of 77 intents it has 0.943 where its halves have 0.938. Where rows are
few, each label's name is tried as one more row of its class: on 10 rows per class of that set it was worth 0.7 points.
The held-out answers are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.learning.data import features as frozen
from models.learning.data.folds import keep_together, stratified_folds, subsample
from models.learning.data.ragged import Ragged, flat
from models.learning.heads import linear
from models.learning.heads.cross_validation import (
    CrossValidation,
    CrossValidationResult,
    DesignMatrix,
    FitContext,
    measure,
)
from models.learning.heads.linear import Floats, Head

_FACTOR = 3.0
_FURTHEST = 8  # steps away from the start: the search ends where it gets worse, long before that
_COMPARISON_ROWS = 4_000
# Where a row has features for each of its words, so many words are enough to compare feature sets, and penalties.
_COMPARISON_UNITS, _PENALTY_UNITS = 12_000, 24_000
_AND = " + "


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen head: its features, its penalty, its out-of-fold logits, and all that was tried."""

    features: str
    names: tuple[str, ...]
    members: tuple[tuple[str, ...], ...]  # features of each head in the mean; one member: just that head
    inverse_penalty: float
    label_names: bool
    fold_N: NDArray[np.int64]
    logits_NK: Floats  # out of fold
    trials: list[CrossValidationResult] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PenaltyStart:
    """Start of the search for the penalty, as an inverse penalty; None: the link's default."""

    inverse: float | None = None
    fixed: bool = False  # the customer named it: there is nothing to search


def choose(  # noqa: PLR0917
    table: DesignMatrix,
    label_names: DesignMatrix | None,
    sets: Mapping[str, tuple[str, ...]],
    context: FitContext,
    penalty: PenaltyStart,
    group_N: NDArray[np.int64],
) -> Choice:
    """Pick from `sets` and from the penalties, with `label_names` or without.

    Rows of one group are held out together.
    """
    strata_N = context.task.strata(table.targets)
    start, seed = penalty.inverse or context.task.link.default_inverse_penalty, context.seed
    trials: list[CrossValidationResult] = []
    best = next(iter(sets))
    if len(sets) > 1:
        rows = subsample(strata_N, min(_COMPARISON_ROWS, _rows_of(_COMPARISON_UNITS, table)), seed=seed)
        compared_N = keep_together(stratified_folds(strata_N[rows], 3, seed=seed), group_N[rows])
        trials = _compare_feature_sets(table.take(rows), sets, start, compared_N, context)
        best = _best(trials, prefer_first=True).features
    members = tuple(sets[name] for name in best.split(_AND))
    fold_N = stratified_folds(strata_N, 5 if len(strata_N) <= _COMPARISON_ROWS else 3, seed=seed)
    fold_N = keep_together(fold_N, group_N)
    # Drawn anew: the folds were dealt with `seed`, and the same draw may be a part of one of them.
    rows = subsample(strata_N, _rows_of(_PENALTY_UNITS, table), seed=seed + 1)
    tried_table, tried_fold_N = table.take(rows), fold_N[rows]

    def prepare(names: DesignMatrix | None) -> CrossValidation:
        return CrossValidation(tried_table, names, best, members, tried_fold_N, context)

    results = _search_penalty(prepare, label_names, start, fixed=penalty.fixed)
    winner = _best([trial for trial, _ in results])
    if len(rows) < len(strata_N):
        results.append(CrossValidation(table, None, best, members, fold_N, context).run(winner.inverse_penalty))
        winner = results[-1][0]
    return Choice(
        features=best,
        names=tuple(dict.fromkeys(name for names in members for name in names)),
        members=members,
        inverse_penalty=winner.inverse_penalty,
        label_names=winner.label_names,
        fold_N=fold_N,
        logits_NK=next(logits_NK for trial, logits_NK in results if trial is winner),
        trials=[*trials, *(trial for trial, _ in results)],
    )


def _search_penalty(
    prepare: Callable[[DesignMatrix | None], CrossValidation],
    label_names: DesignMatrix | None,
    start: float,
    *,
    fixed: bool,
) -> list[tuple[CrossValidationResult, Floats]]:
    """Search the penalty from `start` to weaker and to stronger ones, with label names if they help."""
    validation = prepare(None)
    results = [validation.run(start)]
    if label_names is not None:
        named = prepare(label_names)
        results.append(named.run(start))
        if _best([trial for trial, _ in results]) is results[-1][0]:
            validation = named
    for factor in () if fixed else (_FACTOR, 1 / _FACTOR):
        best_so_far = _best([trial for trial, _ in results])
        if best_so_far.inverse_penalty != start:
            break  # the other direction was better, and the score has one maximum
        for step in range(1, _FURTHEST + 1):
            results.append(validation.run(start * factor**step))
            if _best([trial for trial, _ in results]) is not results[-1][0]:
                break
    return results


def default_first(sets: Mapping[str, tuple[str, ...]], default: str | None) -> Mapping[str, tuple[str, ...]]:
    """Return the same sets with the default in front; of a mean of two the first is the default."""
    front = (default or "").split(_AND)[0]
    return {front: sets[front], **sets} if front in sets else sets


def _rows_of(most: int, table: DesignMatrix) -> int:
    """Return how many rows have about so many units; all rows, where a row is one."""
    rows = len(table.targets)
    return max(1, rows * most // max(len(table.targets.values), 1)) if isinstance(table.targets, Ragged) else rows


def fit_final(table: DesignMatrix, label_names: DesignMatrix | None, choice: Choice, context: FitContext) -> Head:
    """Fit the chosen head to all rows of `table`, with the label names if they were chosen."""
    if choice.label_names and label_names is not None:
        table = table.with_rows(label_names)
    targets = torch.from_numpy(flat(table.targets)).to(context.device)
    parts = []
    for names in choice.members:
        context.check_stop()
        part = linear.fit_head(
            frozen.derive(table.features, names),
            targets,
            context.task.link,
            outputs=context.outputs,
            inverse_penalty=choice.inverse_penalty,
            owned=frozen.is_copy(names),
            check_stop=context.check_stop,
        )
        parts.append((names, part))
    return mean_head(parts, choice.names, {name: frozen.width(table.features, name) for name in choice.names})


def mean_head(parts: Sequence[tuple[Sequence[str], Head]], names: Sequence[str], widths: Mapping[str, int]) -> Head:
    """Return the head whose logits are the mean of the parts' logits, on the union of their features."""
    starts = dict(zip(names, np.cumsum([0, *(widths[name] for name in names)]), strict=False))
    outputs = len(parts[0][1].bias_K)
    weight_KF = np.zeros((outputs, sum(widths[name] for name in names)), dtype=np.float32)
    bias_K = np.zeros(outputs, dtype=np.float32)
    for part_names, head in parts:
        at = 0
        for name in part_names:
            width = widths[name]
            weight_KF[:, starts[name] : starts[name] + width] += head.weight_KF[:, at : at + width] / len(parts)
            at += width
        bias_K += head.bias_K / len(parts)
    return Head(weight_KF, bias_K)


def _compare_feature_sets(
    table: DesignMatrix,
    sets: Mapping[str, tuple[str, ...]],
    inverse_penalty: float,
    fold_N: NDArray[np.int64],
    context: FitContext,
) -> list[CrossValidationResult]:
    """Return the results of every set alone, and of the mean of the first one, the default, with each other one."""
    answers: dict[str, Floats] = {}
    trials = []
    for name, names in sets.items():
        trial, answers[name] = CrossValidation(table, None, name, (names,), fold_N, context).run(inverse_penalty)
        trials.append(trial)
    default = next(iter(sets))
    for name, logits_NK in answers.items():
        if name != default and not set(sets[name]) <= set(sets[default]):
            mean_NK = (answers[default] + logits_NK) * np.float32(0.5)
            trials.append(measure(default + _AND + name, mean_NK, table.targets, inverse_penalty, False, context))
    return trials


def _best(trials: Sequence[CrossValidationResult], *, prefer_first: bool = False) -> CrossValidationResult:
    """Return the trial of least loss among those whose score is as good as the best, up to half a standard error.

    The score decides, but on few rows it is noise to a tenth of a point; the loss sees every row's margin. With
    `prefer_first` the first trial wins unless another one's loss is clearly less: on few rows the difference is noise.
    Of spans the score alone decides: on wnut17 the penalty of least loss has 0.561, ten times as much 0.569 (in the
    set's other two files 0.551 and 0.574, 0.384 and 0.407).
    """
    top = max(trial.score for trial in trials)
    noise = 0.0 if trials[0].by_score else (max(top * (1 - top), 0.01) / trials[0].rows) ** 0.5
    first = trials[0]
    best = min((trial for trial in trials if trial.score >= top - 0.5 * noise), key=lambda trial: trial.log_loss)
    if prefer_first and first.score >= top - noise and first.log_loss <= best.log_loss * (1 + first.rows**-0.5):
        return first
    return best


def describe(trials: Sequence[CrossValidationResult]) -> list[dict[str, Any]]:
    """Return the entries of the report."""
    return [
        {
            "features": trial.features,
            "regularization": linear.regularization(trial.inverse_penalty),
            "label_names": trial.label_names,
            "score": trial.score,
            "log_loss": trial.log_loss,
            "rows": trial.rows,
        }
        for trial in trials
    ]
