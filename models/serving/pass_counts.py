"""Counts that a runner keeps of its passes, for the operator's metrics."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field

# Upper bounds, in seconds: an idle engine takes a row within a millisecond.
WAIT_BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass(slots=True)
class Distribution:
    """Counts of the values below each bound. `observe` is for one thread at a time; reading needs no lock."""

    bounds: tuple[float, ...]
    counts: list[int] = field(init=False)  # one per bound, and one for what is above all of them
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect.bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        """Return every bound with how many values are no larger, as Prometheus wants them."""
        reached, found = 0, []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            reached += count
            found.append((bound, float(reached)))
        return found


@dataclass(frozen=True, slots=True)
class PassCounts:
    """Counts of everything since the runner was opened."""

    base_model: str
    passes: int
    rows: int
    tokens: int
    waiting_rows: int  # now
    queue_wait_s: Distribution  # per request, from its arrival to its first pass, without tokenising
