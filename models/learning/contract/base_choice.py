"""What is told of the bases that were probed for a run: plain values, as events and reports carry them."""

from __future__ import annotations

from dataclasses import dataclass

ONLY_BASE = "It is the only base installed that can take the job: nothing was probed."
PROBE = "probe"  # the candidate of an outcome that compares two bases


@dataclass(frozen=True, slots=True)
class BaseProbe:
    """One base: how a head on its frozen features did on held-out rows, and what it cost. No score: see `note`."""

    base: str
    parameters: int = 0
    score: float | None = None
    score_low: float | None = None
    score_high: float | None = None
    ms_per_row: float | None = None  # of encoding
    seconds: float | None = None  # of the whole probe, without loading the base
    note: str = ""
