"""How much refinement is worth: whether to try at all, on how many held-out rows, and how candidates race."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from models.learning.heads.first_version import FirstVersion
from models.learning.search.candidates import HANDFUL, Candidate
from models.learning.search.priors import Prior

# Of its answers, what share of the errors' number changes: the noise of a paired comparison comes from those alone.
_USUAL_CHANGE = 0.4
# Held-out rows that confirm what earlier jobs say: they tell five points apart from none.
_TELLING = 100


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


def worth_trying(first: FirstVersion, field: Sequence[Candidate], outlook: Prior, *, rows: int) -> Verdict:
    """Try where the errors leave more to win than the comparison's own noise can hide."""
    errors = 1.0 - first.trained.assessment.score.value
    best = max(field, key=lambda candidate: outlook.relief(candidate.name))
    gain = outlook.relief(best.name) * errors
    noise = (_USUAL_CHANGE * errors / rows) ** 0.5
    if gain < noise:
        reason = f"the {errors:.1%} errors leave about {gain:.2%} to win, less than the {noise:.2%} that are noise"
        return Verdict(None, gain, noise, reason)
    return Verdict(best.name, gain, noise, f"about {gain:.2%} to win against {noise:.2%} of noise")


def choose_field(field: Sequence[Candidate], outlook: Prior) -> list[Candidate]:
    """Who races, the best expectation first: whoever is not known here and may be better than the best one."""
    ranked = sorted(field, key=lambda candidate: -outlook.relief(candidate.name))
    expected = outlook.relief(ranked[0].name)
    return [
        candidate.lasting(outlook.epochs(candidate.name, candidate.schedule.epochs))
        for candidate in ranked
        if candidate is ranked[0]
        or (not outlook.knows(candidate.name) and outlook.most_relief(candidate.name) > expected)
    ]


@dataclass(frozen=True, slots=True)
class TrialPlan:
    """At most `used` of `folds` parts are held out in turn; from `least` on a clear answer ends it."""

    folds: int
    used: int
    least: int = 1

    def work(self, rows: int) -> float:
        """Rows that are passed per epoch at least, the final fit on all of them included."""
        return rows * (self.least * self._part + 1.0)

    def most_work(self, rows: int) -> float:
        """The same if no answer is clear before the last part."""
        return rows * (self.used * self._part + 1.0)

    def trusting(self, rows: int) -> TrialPlan:
        """Half the parts, or one if it is enough rows: what earlier jobs saw in this situation counts as well."""
        enough = self.folds > 1 and rows / self.folds >= _TELLING
        return replace(self, used=1 if enough else max(1, self.used // 2), least=1)

    @property
    def _part(self) -> float:
        return 1.0 if self.folds == 1 else (self.folds - 1) / self.folds


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


@dataclass(frozen=True, slots=True)
class Rung:
    """A short refinement that decides who goes on: on so many rows, measured on so many others."""

    number: int  # from 1
    rows: int
    held: int
    share: float  # of the epochs

    def epochs(self, candidate: Candidate) -> int:
        """The candidate's, cut short; the rate still falls to zero at their end."""
        return max(1, round(self.share * candidate.schedule.epochs))


def plan_rungs(candidates: int, *, rows: int) -> list[Rung]:
    """Successive halving (Jamieson and Talwalkar 2016): every rung drops half and gives the others twice as much.

    A handful of rows is refined to the end in seconds, and half-way nobody has learned anything from them yet.
    """
    rungs: list[Rung] = []
    while candidates > 1:
        number = len(rungs) + 1
        share = 1.0 if rows <= HANDFUL else min(1.0, 0.2 * 2**number)
        rungs.append(Rung(number, 1_000 * 2**number, 1_000, share))
        candidates //= 2
    return rungs
