"""How good, how sure, and which of two is better. Everything works on tallies, so every task gets all of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.learning.tasks.task import Floats, Tally, Targets, Task

_RESAMPLES = 1_000
_Z95 = 1.959964
_CONFUSION_CLASSES = 40
_ECE_BINS = 15


@dataclass(frozen=True, slots=True)
class Score:
    """A metric with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models on the same rows. `probability` is that of `gain` > 0 when rows are drawn anew."""

    gain: float
    low: float
    high: float
    probability: float
    p_value: float  # McNemar's exact test; 1.0 where rows are not simply right or wrong


def score(tally: Tally, *, seed: int = 0) -> Score:
    """Wilson's interval where each row is right or wrong, else the bootstrap's percentiles."""
    if np.all(tally.possible_N == 1.0):
        return _wilson(tally.gained_N.sum(), len(tally.gained_N))
    resampled = _resample(tally, seed)
    low, high = np.percentile(resampled, (2.5, 97.5))
    return Score(tally.score, float(low), float(high))


def compare(new: Tally, old: Tally, *, seed: int = 0) -> Comparison:
    """How much better `new` is than `old` on the same rows."""
    gains = _resample(new, seed) - _resample(old, seed)  # the same seed draws the same rows: paired
    low, high = np.percentile(gains, (2.5, 97.5))
    probability = float((gains > 0).mean() + 0.5 * (gains == 0).mean())
    return Comparison(new.score - old.score, float(low), float(high), probability, _mcnemar(new, old))


def per_class(
    task: Task, targets: Targets, chosen_NK: NDArray[np.bool_], labels: Sequence[str]
) -> list[dict[str, Any]]:
    """Precision, recall, F1 and support of every label."""
    true_NK = _indicator(targets, len(labels))
    both_K = (true_NK & chosen_NK).sum(0)
    chosen_K, support_K = chosen_NK.sum(0), task.supports(targets, labels)
    return [
        {
            "label": label,
            "precision": _ratio(both_K[k], chosen_K[k]),
            "recall": _ratio(both_K[k], support_K[k]),
            "f1": _ratio(2 * both_K[k], chosen_K[k] + support_K[k]),
            "support": int(support_K[k]),
        }
        for k, label in enumerate(labels)
    ]


def confusion(targets: Targets, chosen_NK: NDArray[np.bool_], labels: Sequence[str]) -> dict[str, Any] | None:
    """Counts of (true, predicted); beyond 40 classes only those with the most errors. None for several labels."""
    if targets.ndim != 1:
        return None
    count = len(labels)
    matrix_KK = np.zeros((count, count), dtype=np.int64)
    np.add.at(matrix_KK, (targets, chosen_NK.argmax(1)), 1)
    errors_K = matrix_KK.sum(0) + matrix_KK.sum(1) - 2 * matrix_KK.diagonal()
    shown = np.sort(np.argsort(-errors_K, kind="stable")[:_CONFUSION_CLASSES])
    return {
        "labels": [labels[index] for index in shown],
        "matrix": matrix_KK[np.ix_(shown, shown)].tolist(),
        "classes_left_out": count - len(shown),
    }


def expected_calibration_error(targets: Targets, probabilities_NK: Floats) -> float:
    """Mean distance of confidence and hit rate over 15 bins; of all labels' probabilities if there are several."""
    if targets.ndim == 1:
        confidence_N = probabilities_NK.max(1)
        hit_N = (probabilities_NK.argmax(1) == targets).astype(np.float64)
    else:
        confidence_N, hit_N = probabilities_NK.ravel(), targets.ravel().astype(np.float64)
    bins_N = np.minimum((confidence_N * _ECE_BINS).astype(np.int64), _ECE_BINS - 1)
    weights = np.bincount(bins_N, minlength=_ECE_BINS)
    gaps = np.bincount(bins_N, confidence_N - hit_N, minlength=_ECE_BINS)
    return float(np.abs(gaps).sum() / max(weights.sum(), 1))


def _indicator(targets: Targets, count: int) -> NDArray[np.bool_]:
    if targets.ndim == 2:
        return targets > 0
    true_NK = np.zeros((len(targets), count), dtype=np.bool_)
    true_NK[np.arange(len(targets)), targets] = True
    return true_NK


def _wilson(hits: float, rows: int) -> Score:
    rate, z2 = hits / rows, _Z95**2 / rows
    centre = (rate + z2 / 2) / (1 + z2)
    half = _Z95 / (1 + z2) * math.sqrt(rate * (1 - rate) / rows + z2 / (4 * rows))
    return Score(float(rate), float(centre - half), float(centre + half))


def _resample(tally: Tally, seed: int) -> NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    rows = len(tally.gained_N)
    scores = np.empty(_RESAMPLES)
    for index in range(_RESAMPLES):
        drawn = generator.integers(0, rows, rows)
        scores[index] = tally.gained_N[drawn].sum() / max(tally.possible_N[drawn].sum(), 1e-12)
    return scores


def _mcnemar(new: Tally, old: Tally) -> float:
    if not (np.all(new.possible_N == 1.0) and np.all(old.possible_N == 1.0)):
        return 1.0
    won = int(((new.gained_N == 1) & (old.gained_N == 0)).sum())
    lost = int(((new.gained_N == 0) & (old.gained_N == 1)).sum())
    total, extreme = won + lost, min(won, lost)
    if total == 0:
        return 1.0
    # Two-sided sign test, in logarithms: thousands of rows would overflow the binomials.
    logs = [
        math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1) - total * math.log(2)
        for k in range(extreme + 1)
    ]
    return min(1.0, 2.0 * sum(math.exp(value) for value in logs))


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0
