"""Successive halving: candidates are refined shortly on a part of the rows, and the better half goes on.

All of a rung learn from the same rows and answer the same others, so that their losses compare pair by pair. A short
refinement shows which candidate is worth a trial; whether any beats the head, only the trial shows.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from models.learning.contract.errors import Diverged
from models.learning.contract.events import TrainEvent
from models.learning.finetuning import splits
from models.learning.search import policy
from models.learning.search.budget import OverBudget
from models.learning.search.candidates import Candidate
from models.learning.search.held_out import Trial
from models.learning.search.policy import Rung
from models.learning.search.trials import SearchContext, fit_on_split


def race(context: SearchContext, candidates: Sequence[Candidate]) -> Generator[TrainEvent, None, Candidate | None]:
    """The last one remaining, None if none comes close to the head. Raises OverBudget if not even one fits."""
    remaining = list(candidates)
    for rung in policy.plan_rungs(len(remaining), rows=context.run.rows_read):
        trials = yield from _run_rung(context, remaining, rung)
        if all(policy.is_hopeless(trial.figures) for _, trial in trials):
            return None
        ranked = sorted(trials, key=lambda entry: entry[1].new_loss)
        remaining = [candidate for candidate, _ in ranked[: policy.survivors(len(ranked))]]
        if len(remaining) == 1:
            break
    for candidate in remaining:
        context.report.leave(candidate, "trial")
    return remaining[0]


def rung_work(candidate: Candidate, rung: Rung, rows: int) -> float:
    """What one candidate costs on one rung."""
    return candidate.lasting(rung.epochs(candidate.config.epochs)).work(min(rows, rung.rows))


def _run_rung(
    context: SearchContext, remaining: Sequence[Candidate], rung: Rung
) -> Generator[TrainEvent, None, list[tuple[Candidate, Trial]]]:
    """Refine every candidate on this rung, the best expectation first; the budget may end it after the first one."""
    run, budget, report = context.run, context.budget, context.report
    split = splits.rung_split(run, f"rung-{rung.number}", folds=context.plan.folds, rows=rung.rows, held_rows=rung.held)
    baseline = splits.fit_baseline(run, context.first, split)  # the same for all of them
    trials: list[tuple[Candidate, Trial]] = []
    for candidate in remaining:
        work = rung_work(candidate, rung, len(split.train))
        needed = candidate is remaining[0]
        if not budget.plan_if_affordable(work) and not needed:
            report.leave(candidate, "budget")
            continue
        report.leave(candidate, f"rung {rung.number}")
        results = context.held_out_results()
        short = candidate.lasting(rung.epochs(candidate.config.epochs))
        try:
            with context.metered(candidate):
                label = f"{candidate.name}, rung {rung.number}"
                yield from fit_on_split(context, short, split, baseline, results, label=label)
        except Diverged:
            report.leave(candidate, f"diverged on rung {rung.number}")
        except OverBudget:
            report.leave(candidate, "budget")
            if needed:
                for other in remaining[1:]:
                    report.leave(other, "budget")
                raise
            budget.cancel(work)
        else:
            trials.append((candidate, results.best_moment()))
            report.add_rung(candidate, rung.number, trials[-1][1])
    return trials
