"""The report of a run, built while it goes on. All that changes during a run is kept here."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from models.learning import loss_curve
from models.learning.contract.comparison import LiveComparison
from models.learning.contract.events import CurvePoint
from models.learning.contract.outcomes import Outcome

_MOST_POINTS = 5_000  # of the loss curve that a job leaves as a file


class ReportBuilder:
    """Collects figures, costs and what was tried; every event takes its report from here."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._figures: dict[str, Any] = {}
        self._seconds: dict[str, float] = {}
        self._tried: list[dict[str, Any]] = []
        self._warnings: list[dict[str, Any]] = []
        self._tokens = 0
        self._outcomes: tuple[Outcome, ...] = ()
        self._comparison: LiveComparison | None = None
        self._curve: tuple[CurvePoint, ...] = ()

    def state(self, **figures: Any) -> None:
        """Add or replace figures that are the same for every candidate; JSON-ready."""
        self._figures.update(figures)

    def add_seconds(self, step: str, seconds: float) -> None:
        """Write how long a step has taken; of one that is written again, the later figure counts."""
        self._seconds[step] = seconds

    def add_warning(self, code: str, message: str, **more: Any) -> None:
        """Add something that the customer should look at and that does not end the run."""
        self._warnings.append({"code": code, "message": message, **more})

    def add_tokens(self, tokens: int) -> None:
        """Count tokens that were trained on."""
        self._tokens += tokens

    def add_tried(self, name: str, **figures: Any) -> None:
        """Add a candidate to `strategies_tried`."""
        self._tried.append({"name": name, **figures})

    def replace_tried(self, tried: Sequence[dict[str, Any]]) -> None:
        """Replace `strategies_tried` by a later state of it."""
        self._tried = list(tried)

    def keep_outcomes(self, outcomes: tuple[Outcome, ...]) -> None:
        """Keep what later runs may learn from."""
        self._outcomes = outcomes

    def keep_comparison(self, comparison: LiveComparison) -> None:
        """Keep what became of the best version beside the live one."""
        self._comparison = comparison

    def keep_curve(self, points: Sequence[CurvePoint]) -> None:
        """Keep the loss curve of what was trained, instead of an earlier one."""
        self._curve = loss_curve.thin(points, _MOST_POINTS)

    def elapsed_s(self) -> float:
        """Return the seconds since the run began."""
        return time.monotonic() - self._began

    def seconds_of(self, step: str) -> float:
        """Return how long a step has taken; raises KeyError for one that has not ended."""
        return self._seconds[step]

    @property
    def baseline(self) -> float:
        """The score that a version has to beat."""
        return float(self._figures["baseline"]["gate"])

    @property
    def tried(self) -> tuple[dict[str, Any], ...]:
        """The entries of `strategies_tried` so far."""
        return tuple(self._tried)

    @property
    def tokens(self) -> int:
        """Tokens that were trained on so far."""
        return self._tokens

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """Outcomes that later runs may learn from."""
        return self._outcomes

    @property
    def curve(self) -> tuple[CurvePoint, ...]:
        """The loss curve; () where nothing was trained step by step."""
        return self._curve

    @property
    def comparison(self) -> LiveComparison | None:
        """The best version beside the live one; None where nothing was compared."""
        return self._comparison

    def of_candidate(self, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Return a candidate's report: its own figures, and everything else as it is now."""
        return {**self._figures, **figures, **self._warned(figures), **self._costs()}

    def final(self, best: Mapping[str, Any]) -> dict[str, Any]:
        """Return the report of the best candidate, brought up to date with what came after it."""
        return {**best, **self._figures, **self._warned(best), **self._costs()}

    def _warned(self, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Return the warnings of a candidate together with those of the run."""
        own = list(figures.get("warnings", []))
        found = [*own, *(warning for warning in self._warnings if warning not in own)]
        return {"warnings": found} if found else {}

    def _costs(self) -> dict[str, Any]:
        seconds = {**self._seconds, "total": self.elapsed_s()}
        return {"strategies_tried": list(self._tried), "seconds": seconds}


def versions() -> dict[str, str]:
    """Return the versions of the software that a result depends on."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for package in ("transformers", "graft"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # a source tree that was never installed
            found[package] = "unknown"
    return found
