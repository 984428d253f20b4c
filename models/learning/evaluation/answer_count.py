"""How many answers a score is made of: rows for some metrics, spans or labels of a row for others."""

from __future__ import annotations

from models.learning.evaluation.scores import Score
from models.learning.tasks.task import Tally

_STANDARD_ERRORS = 2 * 1.959964  # in a 95 % interval


def count(tally: Tally, score: Score) -> float:
    """Return how many independent answers, each right or wrong, would have the interval that `score` has.

    Where rows are simply right or wrong that is their number. 200 sentences with eight spans each are 1,600 answers if
    mistakes are spread, and 200 if a sentence has all of them right or none: the interval, from rows drawn anew, has
    seen which. The number of rows where the interval has no width.
    """
    rows = len(tally.parts_NJ)
    deviation = (score.high - score.low) / _STANDARD_ERRORS
    spread = score.value * (1.0 - score.value)
    if tally.hits_N is not None or deviation <= 0 or spread <= 0:
        return float(rows)
    return spread / deviation**2
