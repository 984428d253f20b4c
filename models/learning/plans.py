"""How much refinement is worth: whether to try, with which move, on how many held-out rows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from models.learning.first_version import FirstVersion

# Of its errors, what share refinement has taken from a fitted head where it helped at all.
_USUAL_RELIEF = 0.08
# Of its answers, what share of the errors' number changes: the noise of a paired comparison comes from those alone.
_USUAL_CHANGE = 0.4


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `auto` decided before spending anything, and why."""

    strategy: str | None
    expected_gain: float
    noise: float  # standard error of a paired comparison on all rows
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """For the report."""
        return asdict(self)


def worth_trying(first: FirstVersion, *, rows: int) -> Verdict:
    """Try where the errors leave more to win than the comparison's own noise can hide."""
    errors = 1.0 - first.trained.assessment.score.value
    gain = _USUAL_RELIEF * errors
    noise = (_USUAL_CHANGE * errors / rows) ** 0.5
    if gain < noise:
        reason = f"the {errors:.1%} errors leave about {gain:.2%} to win, less than the {noise:.2%} that are noise"
        return Verdict(None, gain, noise, reason)
    return Verdict("partial", gain, noise, f"about {gain:.2%} to win against {noise:.2%} of noise")


@dataclass(frozen=True, slots=True)
class TrialPlan:
    """At most `used` of `folds` parts are held out in turn; from `least` on a clear answer ends it."""

    folds: int
    used: int
    least: int = 1

    def work(self, rows: int) -> float:
        """Rows that are passed per epoch at least, the final fit on all of them included."""
        part = 1.0 if self.folds == 1 else (self.folds - 1) / self.folds
        return rows * (self.least * part + 1.0)


def plan_trials(rows: int, *, validated: bool) -> TrialPlan:
    """Few rows: hold out each of them once, or the comparison drowns in noise. Many rows: an eighth is plenty.

    The plan depends on the rows alone, not on a clock: within the budget the same request gives the same model.
    """
    if validated:
        return TrialPlan(1, 1)
    if rows <= 1_500:
        return TrialPlan(4, 4, least=2)
    if rows <= 5_000:
        return TrialPlan(5, 3)
    return TrialPlan(8, 1)
