"""Trials: train on a part of the rows, answer the rest, compare with the head that was fitted on that same part.

Splits are tried one after the other, and only as many as it takes to know: a clear gain or a clear failure ends it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from models.learning.contract.events import TrainEvent
from models.learning.finetuning import averaging, splits, training_loop
from models.learning.finetuning.averaging import WeightAverage
from models.learning.finetuning.fit import Fit, FitJob, fit
from models.learning.finetuning.network import blend
from models.learning.finetuning.splits import HeadBaseline, Split
from models.learning.finetuning.training_loop import Epoch, TrainingRows
from models.learning.heads.encoding import EncodedRun
from models.learning.heads.first_version import FirstVersion
from models.learning.search import policy, trial_plans
from models.learning.search.budget import Budget, OverBudget
from models.learning.search.candidates import Candidate
from models.learning.search.held_out import HeldOutResults, Trial
from models.learning.search.racing import RungTrials
from models.learning.search.rates import SLOWER, LearningRates, LosesHead, check_first_epoch
from models.learning.search.report import SearchReport
from models.learning.search.trial_plans import Rung, TrialPlan


@dataclass(frozen=True, slots=True)
class SearchContext:
    """Shared by the steps of one search. Of it only the budget, the report and the rates change."""

    run: EncodedRun
    first: FirstVersion
    plan: TrialPlan
    budget: Budget
    report: SearchReport
    rates: LearningRates

    def held_out_results(self, candidate: Candidate) -> HeldOutResults:
        """Return an empty record of the candidate's held-out answers.

        Rows are contrasted to the end of the schedule: few held-out rows choose a moment when nothing has settled.
        """
        run = self.run
        validated = run.validation is not None
        groups = (run.validation or run.training).corpus.groups
        return HeldOutResults(
            run.task,
            self.first.stack,
            seed=run.request.seed,
            validated=validated,
            groups=groups,
            to_the_end=run.request.hyperparameters.n_epochs != "auto" or candidate.config.contrastive,
        )

    @contextmanager
    def metered(self, candidate: Candidate) -> Iterator[None]:
        """Add to a candidate's cost what is spent inside."""
        began, done, tokens = time.monotonic(), self.budget.done, self.run.report.tokens
        try:
            yield
        finally:
            self.report.add_cost(
                candidate,
                seconds=time.monotonic() - began,
                work=self.budget.done - done,
                tokens=self.run.report.tokens - tokens,
            )


def run_trials(
    context: SearchContext, candidate: Candidate, average: WeightAverage
) -> Generator[TrainEvent, None, Trial]:
    """Try split after split until the answer is clear; returns the refined model's best moment. Raises OverBudget.

    The weights of each split's fit at the end of its schedule are added to `average`, where their mean is a model.
    """
    run, plan = context.run, context.plan
    results = context.held_out_results(candidate)
    planned = splits.trial_splits(run, folds=plan.folds, used=plan.used)
    for number, split in enumerate(planned, start=1):
        label = f"{candidate.name}, trial {number} of at most {len(planned)}"
        try:
            yield context.budget.progress(0.0, f"{label}: fitting the head of the same rows")
            with context.budget.set_up():
                baseline = splits.fit_baseline(run, context.first, split)
            yield from _fit_on_split(context, candidate, split, baseline, results, label=label, average=average)
        except OverBudget:
            if number == 1 or not context.budget.affords(candidate.work(run.rows_read)):
                raise
            break  # the splits before this one decide
        trial = results.best_moment()
        if number < plan.least or number == len(planned):
            continue
        if policy.is_clear(trial.comparison.probability):
            break
        if not context.budget.plan_if_affordable(candidate.work(len(split.train))):
            break
    return trial


def prepare_rung(context: SearchContext, rung: Rung) -> RungTrials:
    """Draw the rung's rows and fit the head to them; each candidate is refined on the same ones."""
    split = splits.rung_split(
        context.run, f"rung-{rung.number}", folds=context.plan.folds, rows=rung.rows, held_rows=rung.held
    )
    with context.budget.set_up():
        baseline = splits.fit_baseline(context.run, context.first, split)

    def refine(candidate: Candidate) -> Generator[TrainEvent, None, Trial]:
        results = context.held_out_results(candidate)
        short = candidate.with_epochs(rung.epochs(candidate.config.epochs))
        with context.metered(candidate):
            label = f"{candidate.name}, rung {rung.number}"
            yield from _fit_on_split(context, short, split, baseline, results, label=label)
        return results.best_moment()

    return RungTrials(len(split.train), refine)


def _fit_on_split(
    context: SearchContext,
    candidate: Candidate,
    split: Split,
    baseline: HeadBaseline,
    results: HeldOutResults,
    *,
    label: str,
    average: WeightAverage | None = None,
) -> Generator[TrainEvent, None, None]:
    """Fit on a split and add the answers to its held-out rows to `results`. Raises OverBudget, Diverged."""
    run, budget, rates = context.run, context.budget, context.rates
    rows = splits.rows_of(run, context.first, split)
    # All splits of a trial are answered at one rate.
    may_slow = results.empty
    while True:
        slowed, epochs = rates.apply(candidate), list[Epoch]()

        def keep(epoch: Epoch, epochs: list[Epoch] = epochs) -> None:
            if epoch.number == 1 and may_slow and rates.may_slow(candidate):
                check_first_epoch(epoch, baseline, split, run.task.link)
            epochs.append(epoch)

        name = rates.name_of(candidate, split.name)
        job = FitJob(candidate.name, name, slowed.config, baseline.start, split.train, rows)
        try:
            fitted = yield from fit_candidate(context, slowed, job, label, keep)
            break
        except LosesHead:
            rates.slow(candidate)
            lost = len(rows.tokens) * candidate.weight
            budget.plan(lost)
            budget.complete(lost)
            run.report.add_tokens(_tokens(slowed, rows))
            yield budget.progress(0.0, f"{label}: begins again at {SLOWER:g} of the rate, which lost the head")
    # Only now: a split that the budget ended has answered for some epochs and not for others.
    results.begin_split(
        split.held_targets, split.held, baseline.logits_NK, baseline.ngram_logits_NK, learned_from=len(split.train)
    )
    for epoch in epochs:
        results.add(epoch.number, 1.0, epoch.held_logits_NK, epoch.loss)
    if average is not None and averaging.suits(candidate.config):
        average.add(fitted.network)
    # Half-way back, a head that was fitted to these features has none that it was fitted to.
    for share in () if candidate.config.contrastive else trial_plans.BLENDS[1:]:
        blend(fitted.network, fitted.start, share)
        answers_NK = training_loop.predict(fitted.network, fitted.rows.held_tokens, run.backbone, stop=run.stop)
        results.add(fitted.epochs, share, answers_NK)


def fit_candidate(
    context: SearchContext,
    candidate: Candidate,
    job: FitJob,
    label: str,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> Generator[TrainEvent, None, Fit]:
    """Run one fit with its progress and its cost. Raises OverBudget, Diverged."""
    run, budget = context.run, context.budget
    steps = fit(run, context.first, job)
    row = len(job.rows.tokens) * candidate.weight
    of_all = "" if job.epochs is None else f" of {job.epochs}"
    done = 0
    with budget.set_up():
        next(steps)  # the network is ready
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            fitted: Fit = end.value
            break
        if isinstance(step, Epoch):
            done = step.number
            on_epoch(step)
            yield budget.progress(row * done, f"{label}, epoch {done}{of_all}", loss=step.loss, epoch=float(done))
        else:
            yield budget.progress(row * (done + step), label)
    run.report.add_tokens(fitted.epochs * _tokens(candidate, fitted.rows))
    budget.complete(row * fitted.epochs)
    return fitted


def _tokens(candidate: Candidate, rows: TrainingRows) -> int:
    """Return the tokens that an epoch learns from."""
    return candidate.config.passes * sum(len(row) for row in rows.tokens)
