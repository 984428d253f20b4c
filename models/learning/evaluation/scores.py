"""Scores, their intervals, and paired comparison. Everything works on tallies, so every task gets all of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.learning.tasks.task import Tally

_RESAMPLES = 1_000
_Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Score:
    """A metric with its 95 % interval."""

    value: float
    low: float
    high: float

    def widened(self, factor: float, *, least: float = 0.0) -> Score:
        """Return the score with an interval so many times as wide on either side, within what the metric can be."""
        low, high = self.value - factor * (self.value - self.low), self.value + factor * (self.high - self.value)
        return Score(self.value, max(min(least, self.low), low), max(self.value, min(1.0, high)))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Results of one model on held-out rows, and the numbers that were fitted to them."""

    score: Score
    figures: dict[str, Any]  # of the report, about this model alone: see `describe`
    temperature: float = 1.0  # logits are divided by it
    thresholds: tuple[float, ...] | None = None  # what a decision needs beside the outputs


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
    if tally.hits_N is not None:
        return _wilson(float(tally.hits_N.sum()), len(tally.hits_N))
    value = tally.score
    return Score(value, *interval(value, _resample(tally, seed)))


def interval(value: float, resampled_R: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % interval of a figure by its percentiles over resamples, (R,); it holds the figure itself.

    Sums over other rows may differ from it in the last place where every row scores the same, and by more where the
    metric is no mean of rows.
    """
    low, high = np.percentile(resampled_R, (2.5, 97.5))
    return min(value, float(low)), max(value, float(high))


def describe(score: Score, *, metric: str, rows: int, validated: bool) -> dict[str, Any]:
    """Return the figures that every report states of a model; `validated`: the rows are those of a validation file."""
    return {
        "metric": metric,
        "score": score.value,
        "score_low": score.low,
        "score_high": score.high,
        "measured_on": "validation_file" if validated else "held_out_training_rows",
        "measured_rows": rows,
    }


def compare(new: Tally, old: Tally, *, seed: int = 0) -> Comparison:
    """Return how much better `new` is than `old` on the same rows."""
    gains = _resample(new, seed) - _resample(old, seed)  # the same seed draws the same rows: paired
    gain = new.score - old.score
    probability = float((gains > 0).mean() + 0.5 * (gains == 0).mean())
    return Comparison(gain, *interval(gain, gains), probability, _mcnemar(new, old))


def _wilson(hits: float, rows: int) -> Score:
    rate, z2 = hits / rows, _Z95**2 / rows
    centre = (rate + z2 / 2) / (1 + z2)
    half = _Z95 / (1 + z2) * math.sqrt(rate * (1 - rate) / rows + z2 / (4 * rows))
    # At a rate of 0 or 1 it ends there; the formula rounds to a number beside it.
    return Score(rate, min(rate, max(0.0, centre - half)), max(rate, min(1.0, centre + half)))


def _resample(tally: Tally, seed: int) -> NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    rows = len(tally.parts_NJ)
    sums_RJ = np.empty((_RESAMPLES, tally.parts_NJ.shape[1]))
    for index in range(_RESAMPLES):
        drawn_N = np.bincount(generator.integers(0, rows, rows), minlength=rows)
        sums_RJ[index] = drawn_N @ tally.parts_NJ
    return tally.metric(sums_RJ)


def _mcnemar(new: Tally, old: Tally) -> float:
    if new.hits_N is None or old.hits_N is None:
        return 1.0
    won = int((new.hits_N & ~old.hits_N).sum())
    lost = int((~new.hits_N & old.hits_N).sum())
    total, extreme = won + lost, min(won, lost)
    if total == 0:
        return 1.0
    # Two-sided sign test, in logarithms: thousands of rows would overflow the binomials.
    logs = [
        math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1) - total * math.log(2)
        for k in range(extreme + 1)
    ]
    return min(1.0, 2.0 * sum(math.exp(value) for value in logs))
