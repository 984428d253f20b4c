"""Whether to refine the first version, and how: candidates race, the last one is tried, a model on all rows follows.

A trial trains on a part of the rows from a head that was fitted on that part alone, and answers the rest. Head and
refined model are compared on exactly those answers. Only then is a model trained on all rows, for as many epochs as
served the trials best: early stopping costs no rows.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.learning.contract.errors import Diverged
from models.learning.contract.events import Progress, TrainEvent
from models.learning.finetuning.fit import fit
from models.learning.finetuning.network import Network, blend, own_tensors
from models.learning.finetuning.splits import material_of
from models.learning.heads.first_version import FirstVersion, tensors_of
from models.learning.run import Run, Trained, write_candidate
from models.learning.search import candidates, outcomes, racing, trials
from models.learning.search.budget import ENDS, Budget, OverBudget
from models.learning.search.candidates import Candidate
from models.learning.search.policy import TrialPlan, Verdict, choose_field, plan_rungs, plan_trials, worth_trying
from models.learning.search.priors import Prior
from models.learning.search.racing import CandidateRun, Meter
from models.learning.search.trials import Trial


@dataclass(slots=True)
class Search:
    """What the steps of one refinement share."""

    run: Run
    first: FirstVersion
    entries: list[CandidateRun]
    outlook: Prior
    plan: TrialPlan
    clock: Budget
    tried_before: list[dict[str, Any]] = field(default_factory=list)

    def tell(self, verdict: Verdict) -> None:
        """Bring the run's report up to date."""
        run, entered = self.run, [entry for entry in self.entries if entry.seconds]
        run.tried = [*self.tried_before, *(entry.describe() for entry in entered)]
        spent = sum(entry.row_epochs * entry.candidate.weight for entry in entered)
        everything = sum(self.work(each, self.plan.most_work(_rows(run))) for each in candidates.every(run))
        run.report["refinement"] = {
            **verdict.as_dict(),
            "earlier_jobs": round(self.outlook.jobs(), 2),
            "candidates": [
                {
                    "name": entry.candidate.name,
                    "expected_gain": entry.expected_relief * (1.0 - self.first.trained.assessment.score.value),
                    "estimated_cost": round(self.work(entry.candidate, self.plan.work(_rows(run)))),
                    "cost": round(entry.row_epochs * entry.candidate.weight),
                    "seconds": round(entry.seconds, 3),
                    "score": None if entry.shown is None else entry.shown.new.score.value,
                    "left_at": entry.left,
                }
                for entry in self.entries
            ],
            # In rows passed through the whole frozen base: what an estimate before the race is made of.
            "cost": {
                "seconds": round(self.clock.spent_s, 3) if entered else 0.0,
                "tokens": sum(entry.tokens for entry in entered),
                "row_epochs": round(sum(entry.row_epochs for entry in entered)),
                "passes": round(spent),
                "of_trying_every_strategy": spent / everything,
            },
        }

    def work(self, candidate: Candidate, rows: float) -> float:
        """Of so many rows per epoch."""
        return rows * candidate.schedule.epochs * candidate.weight


def refine(run: Run, first: FirstVersion) -> Iterator[TrainEvent]:
    """Candidates beyond the first version; in `auto` only those that are better than it."""
    asked = run.request.strategy
    if asked == "zero-shot":
        return
    outlook = outcomes.outlook(run, first.situation, first.trained.assessment.score.value)
    if asked == "head":
        run.outcomes = outcomes.of(run, first, [])
        return
    auto = asked == "auto"
    field = candidates.line_up(run, first) if auto else [candidates.asked(run, asked)]
    search = Search(
        run=run,
        first=first,
        entries=[CandidateRun(candidate, outlook.relief(candidate.name)) for candidate in field],
        outlook=outlook,
        plan=plan_trials(len(run.training.corpus), validated=run.validation is not None),
        clock=Budget(run.request.refine_budget_s if auto else None),
        tried_before=list(run.tried),
    )
    if auto:
        verdict = worth_trying(first, field, outlook, rows=len(run.training.corpus))
    else:
        verdict = Verdict(asked, 0.0, 0.0, "the job asks for it")
    if verdict.strategy is not None:
        yield from _search(search, verdict)
        run.seconds["refining"] = search.clock.spent_s
    search.tell(verdict)
    run.outcomes = outcomes.of(run, first, search.entries)


def _search(search: Search, verdict: Verdict) -> Iterator[TrainEvent]:
    run, clock = search.run, search.clock
    standing = _enter(search)
    try:
        favourite = standing[0]
        clock.total = search.work(favourite.candidate, search.plan.work(_rows(run)))
        winner: CandidateRun | None = favourite
        if len(standing) > 1:
            winner = yield from racing.race(run, search.first, standing, search.plan, clock)
        if winner is None:
            return
        clock.total += search.work(winner.candidate, search.plan.work(_rows(run)))
        clock.total -= search.work(favourite.candidate, search.plan.work(_rows(run)))
        yield from _settle(search, winner, verdict)
    except (Diverged, OverBudget) as error:
        diverged = isinstance(error, Diverged)
        if diverged and run.request.strategy != "auto":
            raise
        for entry in standing:
            if entry.left == "trial":
                entry.left = "diverged" if diverged else "budget"


def _enter(search: Search) -> list[CandidateRun]:
    """Who races, the best expectation first; only that one where all that is known says that the budget is too small.

    One that earlier jobs know well goes straight to its trial, on half the parts: what they saw counts as well.
    """
    by_name = {entry.candidate.name: entry for entry in search.entries}
    standing = []
    for candidate in choose_field([entry.candidate for entry in search.entries], search.outlook):
        by_name[candidate.name].candidate = candidate
        standing.append(by_name[candidate.name])
    if search.run.request.strategy == "auto" and search.outlook.knows(standing[0].candidate.name):
        search.plan = search.plan.trusting(_rows(search.run))
    row_s = search.outlook.seconds_per_row_epoch(standing[0].candidate.name)
    if row_s is not None and search.clock.limit_s is not None and len(standing) > 1:
        rows = _rows(search.run)
        rung = plan_rungs(len(standing), rows=rows)[0]
        work = sum(racing.work_of(entry, rung, rows) for entry in standing)
        work += search.work(standing[0].candidate, search.plan.work(rows))
        if row_s * work / standing[0].candidate.weight > search.clock.limit_s:
            for entry in standing[1:]:
                entry.left = "budget"
            standing = standing[:1]
    return standing


def _settle(search: Search, entry: CandidateRun, verdict: Verdict) -> Iterator[TrainEvent]:
    """The trial of the last one standing; the model on all rows if it improves, or if the job asks for it."""
    run, first, clock = search.run, search.first, search.clock
    entry.left = "trial"
    with Meter(run, clock, entry):
        entry.trial = yield from trials.hold(run, first, entry.candidate, search.plan, clock)
    search.tell(verdict)
    if not entry.trial.improves and run.request.strategy == "auto":
        return
    with Meter(run, clock, entry):
        network = yield from _train_on_all(run, first, entry.candidate, entry.trial, clock)
    entry.left = "trained on all rows"
    yield Progress("evaluating", ENDS, metrics={"score": entry.trial.new.score.value})
    trained = _trained(run, first, entry.candidate, entry.trial, network)
    run.seconds["refining"] = clock.spent_s
    search.tell(verdict)
    yield write_candidate(run, trained, entry.trial.held, improves=entry.trial.improves)


def _train_on_all(
    run: Run, first: FirstVersion, candidate: Candidate, trial: Trial, clock: Budget
) -> Generator[TrainEvent, None, Network]:
    everything = np.arange(len(run.training.corpus))
    fitted = yield from fit(
        run,
        first,
        candidate,
        first.head,
        everything,
        material_of(run, first, everything, []),
        clock,
        "all rows",
        name="final",
        epochs=trial.epochs,
    )
    blend(fitted.network, fitted.start, trial.blend)
    return fitted.network


def _trained(run: Run, first: FirstVersion, candidate: Candidate, trial: Trial, network: Network) -> Trained:
    schedule, head = candidate.schedule, network.head()
    tensors = {
        **tensors_of(head, trial.stack),
        **own_tensors(network, schedule, run.backbone.dtype),
    }
    return Trained(
        name=schedule.strategy.name,
        features=first.choice.names,
        tensors=tensors,
        assessment=trial.new,
        hyperparameters={
            **first.trained.hyperparameters,
            "n_epochs": trial.epochs,
            "scheduled_epochs": schedule.epochs,
            "batch_size": schedule.batch_size,
            "learning_rate": schedule.learning_rate,
            "head_learning_rate": schedule.head_rate,
            "lora_rank": schedule.low_rank or None,
            "trainable_blocks": run.backbone.blocks - network.first_block,
            "blend": trial.blend,
        },
        details={"first_own_block": network.first_block, "lora_rank": schedule.low_rank},
    )


def _rows(run: Run) -> int:
    """Rows of the training file, those beyond what the head sees among them."""
    return run.rows_read
