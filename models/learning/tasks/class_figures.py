"""Figures of classes in a report: precision, recall and F1 of each, confusion, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.learning.tasks.task import Floats, Targets

_CONFUSION_CLASSES = 40
_ECE_BINS = 15


def describe(
    targets: Targets, probabilities_NK: Floats, chosen_NK: NDArray[np.bool_], labels: Sequence[str]
) -> dict[str, Any]:
    """`per_class`, `confusion` and the error of calibration."""
    return {
        "per_class": per_class(targets, chosen_NK, labels),
        "confusion": confusion(targets, chosen_NK, labels),
        "calibration": {"ece": expected_calibration_error(targets, probabilities_NK)},
    }


def per_class(targets: Targets, chosen_NK: NDArray[np.bool_], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Precision, recall, F1 and support of every label."""
    true_NK = _indicator(targets, len(labels))
    return precision_and_recall((true_NK & chosen_NK).sum(0), chosen_NK.sum(0), true_NK.sum(0), labels)


def precision_and_recall(
    both_K: NDArray[np.int64], chosen_K: NDArray[np.int64], support_K: NDArray[np.int64], labels: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the figures of every label from counts: rightly chosen, chosen, there."""
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


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0
