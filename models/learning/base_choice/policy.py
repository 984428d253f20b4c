"""Rules of the choice, as functions of plain values. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# Rows of a probe. On 1,000 rows half a 95 % interval is three points at most: what matters is further apart.
ROWS = 1_000
# Probability of being better, on the same rows, below which a larger base is not worth what it costs.
CLEARLY_BETTER = 0.9
# Earlier jobs in this situation, far ones counting less, and how rarely a base won in them, from which it is not tried.
KNOWN_JOBS, SELDOM = 2.0, 0.1


def pick(scores: Mapping[str, float], beaten: Mapping[str, float]) -> str:
    """Return the base to take. `scores` are by name, the cheapest base first; of equal ones the first is the best.

    `beaten` is the probability that the best one is better than each other one; the cheapest that is not clearly worse
    is taken.
    """
    best = max(scores, key=lambda name: scores[name])
    return next(name for name in scores if name == best or beaten[name] < CLEARLY_BETTER)


def is_hopeless(earlier: Sequence[tuple[float, float]]) -> bool:
    """Return whether a base need not be tried, by (nearness of a job, probability that it was better) of earlier jobs.

    Better than the base that is cheapest now, and always tried: its score is what tells how near a job is.
    """
    jobs = sum(nearness for nearness, _ in earlier)
    won = sum(nearness * probability for nearness, probability in earlier)
    return jobs >= KNOWN_JOBS and won <= SELDOM * jobs
