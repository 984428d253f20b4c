"""Average precision with intervals: of any draw of the pictures, from matches that were made once.

AP is no sum over pictures, but it is a function of how often each picture is drawn. So its tally has one column per
picture, and shares `scores.score`, `scores.compare` and groups with every other metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.learning.evaluation import scores
from models.learning.evaluation.boxes import IOU_THRESHOLDS, Floats, LabelMatches, Matches
from models.learning.evaluation.scores import Score
from models.learning.tasks.task import Tally

METRIC = "ap50"
_RECALLS = np.linspace(0.0, 1.0, 101)
_CELLS = 4_000_000  # draws x boxes that are looked at together


def tally(matches: Matches, thresholds: slice = slice(0, 1)) -> Tally:
    """Return the tally of the mean AP over labels and the first threshold (AP50), or over `thresholds` of the matches.

    Takes 8 N² bytes for N pictures.
    """
    return Tally(np.eye(matches.pictures), lambda times_RN: mean_ap(matches, times_RN, thresholds))


def mean_ap(matches: Matches, times_RN: Floats, thresholds: slice = slice(None)) -> Any:
    """Return the mean AP (R,) of R draws of the pictures; `times_RN` (or N,): how often each has every picture.

    A label that a draw has no box of does not count in it; a draw without any box has 0.
    """
    times = np.atleast_2d(times_RN)
    by_label_KR = np.stack([_label_ap(each, times, thresholds) for each in matches.labels])
    known_R = (~np.isnan(by_label_KR)).sum(0)
    mean_R: Floats = np.nansum(by_label_KR, axis=0) / np.maximum(known_R, 1)
    return mean_R if np.ndim(times_RN) > 1 else mean_R[0]


def describe(matches: Matches, labels: Sequence[str], *, seed: int = 0) -> dict[str, Any]:
    """Return AP50 and AP50:95 with 95 % intervals by resampling pictures, and both per label, for a report.

    The matches have to be those of `IOU_THRESHOLDS`.
    """
    every = slice(0, len(IOU_THRESHOLDS))
    return {
        "ap50": _rounded(scores.score(tally(matches), seed=seed)),
        "ap": _rounded(scores.score(tally(matches, every), seed=seed)),
        "per_class": {
            label: {
                "ap50": _number(matches.ap_TK[0, at]),
                "ap": _number(matches.ap_TK[:, at].mean()),
                "boxes": int(each.drawn_N.sum()),
                "pictures": int((each.drawn_N > 0).sum()),
            }
            for at, (label, each) in enumerate(zip(labels, matches.labels, strict=True))
        },
    }


def _label_ap(matches: LabelMatches, times_RN: Floats, thresholds: slice) -> Floats:
    """Return the AP (R,) of one label, NaN for draws in which it is not drawn."""
    drawn_R = times_RN @ matches.drawn_N
    step = max(1, _CELLS // max(len(matches.score_D), 1))
    parts = []
    for start in range(0, len(times_RN), step):
        times_RD = times_RN[start : start + step, matches.picture_D]
        drawn = np.maximum(drawn_R[start : start + step], 1.0)[:, None]
        by_threshold = [_interpolated(times_RD, right_D, drawn) for right_D in matches.right_TD[thresholds]]
        parts.append(np.mean(by_threshold, axis=0))
    return np.where(drawn_R > 0, np.concatenate(parts), np.nan)


def _interpolated(times_RD: Floats, right_D: Any, drawn_R1: Floats) -> Floats:
    """Return the mean (R,) of the best precision at 101 recalls or any higher one."""
    right_RD = np.cumsum(times_RD * right_D, axis=1)
    wrong_RD = np.cumsum(times_RD * ~right_D, axis=1)
    precision_RD = right_RD / (right_RD + wrong_RD + np.spacing(1))
    best_RD = np.maximum.accumulate(precision_RD[:, ::-1], axis=1)[:, ::-1]
    padded = np.concatenate([best_RD, np.zeros((len(best_RD), 1))], axis=1)
    recall_RD = right_RD / drawn_R1
    at = np.stack([np.searchsorted(recall_D, _RECALLS, side="left") for recall_D in recall_RD])
    mean_R: Floats = np.take_along_axis(padded, at, axis=1).mean(1)
    return mean_R


def _rounded(score: Score) -> dict[str, float]:
    return {"score": round(score.value, 4), "low": round(score.low, 4), "high": round(score.high, 4)}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
