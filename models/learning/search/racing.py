"""Successive halving: candidates are refined shortly on a part of the rows, and the better half goes on.

All of a rung learn from the same rows and answer the same others, so that their losses compare pair by pair. A short
refinement shows which candidate is worth a trial; whether any beats the head, only the trial shows.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from models.learning.contract.errors import Diverged
from models.learning.contract.events import TrainEvent
from models.learning.search import policy, trial_plans
from models.learning.search.budget import Budget, OverBudget
from models.learning.search.candidates import Candidate
from models.learning.search.held_out import Trial
from models.learning.search.report import SearchReport
from models.learning.search.trial_plans import Rung


@dataclass(frozen=True, slots=True)
class RungTrials:
    """A rung made ready: the same rows and the same head to start from for every candidate on it."""

    rows: int  # to train on
    refine: Callable[[Candidate], Generator[TrainEvent, None, Trial]]  # may raise Diverged, OverBudget


@dataclass(frozen=True, slots=True)
class Race:
    """Parts of a race: `prepare` makes a rung ready, the budget decides what fits, the report takes what happened."""

    rungs: Sequence[Rung]
    prepare: Callable[[Rung], RungTrials]
    budget: Budget
    report: SearchReport

    def run(self, candidates: Sequence[Candidate]) -> Generator[TrainEvent, None, Candidate | None]:
        """Return the last one remaining, None if none comes close to the head. Raises OverBudget if not even one fits.

        The first of the candidates has the best expectation.
        """
        remaining = list(candidates)
        for rung in self.rungs:
            trials = yield from self._run_rung(remaining, rung)
            if all(policy.is_hopeless(trial.figures) for _, trial in trials):
                return None
            ranked = sorted(trials, key=lambda entry: entry[1].figures.new_loss)
            remaining = [candidate for candidate, _ in ranked[: trial_plans.survivors(len(ranked))]]
            if len(remaining) == 1:
                break
        self.report.set_stage(remaining[0], "trial")
        return remaining[0]

    def _run_rung(
        self, remaining: Sequence[Candidate], rung: Rung
    ) -> Generator[TrainEvent, None, list[tuple[Candidate, Trial]]]:
        """Refine every candidate, the best expectation first; the budget may end the rung after that one."""
        budget, report = self.budget, self.report
        yield budget.progress(0.0, f"rung {rung.number}: fitting the head that all start from")
        prepared = self.prepare(rung)
        trials: list[tuple[Candidate, Trial]] = []
        for candidate in remaining:
            work = rung_work(candidate, rung, prepared.rows)
            needed = candidate is remaining[0]
            if not budget.plan_if_affordable(work) and not needed:
                report.set_stage(candidate, "budget")
                continue
            report.set_stage(candidate, f"rung {rung.number}")
            try:
                trial = yield from prepared.refine(candidate)
            except Diverged:
                report.set_stage(candidate, f"diverged on rung {rung.number}")
            except OverBudget:
                report.set_stage(candidate, "budget")
                if needed:
                    for other in remaining[1:]:
                        report.set_stage(other, "budget")
                    raise
                budget.abandon(work)
            else:
                trials.append((candidate, trial))
                report.add_rung(candidate, rung.number, trial)
        return trials


def work(entrants: Sequence[Candidate], rungs: Sequence[Rung], rows: int) -> list[float]:
    """Return the cost of each rung, if the dearest of the candidates go on."""
    remaining, found = list(entrants), []
    for rung in rungs:
        found.append(sum(rung_work(candidate, rung, rows) for candidate in remaining))
        remaining = sorted(remaining, key=lambda candidate: -candidate.weight)[: trial_plans.survivors(len(remaining))]
    return found


def rung_work(candidate: Candidate, rung: Rung, rows: int) -> float:
    """Return the cost of one candidate on one rung."""
    return candidate.with_epochs(rung.epochs(candidate.config.epochs)).work(min(rows, rung.rows))
