"""The search beyond the first version: candidates race, the winner is tried, a model on all rows follows.

A trial trains on a part of the rows from a head that was fitted on that part alone, and answers the rest. Head and
refined model are compared on exactly those answers. Only then is a model trained on all rows, for as many epochs as
served the trials best: early stopping costs no rows. A number that the customer named is kept.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np

from models.learning.contract.errors import Diverged
from models.learning.contract.events import CurvePoint, Progress, TrainEvent
from models.learning.finetuning import averaging, splits
from models.learning.finetuning.averaging import WeightAverage
from models.learning.finetuning.fit import FitJob
from models.learning.finetuning.network import Network, blend, own_parts
from models.learning.heads.encoding import EncodedRun, Measured
from models.learning.heads.first_version import FirstVersion
from models.learning.heads.stacking import parts_of
from models.learning.publishing import Trained, publish
from models.learning.search import candidates, outcomes, policy, racing, trial_plans, trials
from models.learning.search.budget import ENDS, Budget, OverBudget, find_affordable, reductions
from models.learning.search.candidates import Candidate
from models.learning.search.held_out import Trial
from models.learning.search.policy import Verdict
from models.learning.search.priors import Prior
from models.learning.search.racing import Race
from models.learning.search.rates import LearningRates
from models.learning.search.report import CandidateRecord, Expectations, SearchReport
from models.learning.search.situation import Situation
from models.learning.search.trial_plans import Rung, TrialPlan
from models.learning.search.trials import SearchContext


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """Decisions before anything is refined."""

    verdict: Verdict
    candidates: tuple[Candidate, ...]  # all that make sense, the default choice first
    expected: dict[str, float]  # error reduction, by candidate
    trials: TrialPlan
    entrants: tuple[Candidate, ...] = ()  # those that race, the best expectation first; none: nothing is worth trying
    unaffordable: tuple[Candidate, ...] = ()  # those that would race if the budget were larger
    rungs: tuple[Rung, ...] = ()  # of the race of the entrants
    later: tuple[Candidate, ...] = ()  # tried one after the other where none before is better than the head


def refine(run: EncodedRun, first: FirstVersion, situation: Situation) -> Iterator[TrainEvent]:
    """Train candidates beyond the first version; `auto` publishes only one that is better than it."""
    if run.request.strategy == "zero-shot":
        return
    if run.request.strategy == "head":
        run.report.keep_outcomes(outcomes.list_outcomes(run, first, situation, []))
        return
    head_score = first.trained.evaluation.score.value
    prior = outcomes.prior(run, situation, head_score)
    plan = _plan(run, situation, head_score, prior)
    expectations = _expectations(run, plan, prior, head_score)
    asked = run.request.hyperparameters
    context = SearchContext(
        run=run,
        first=first,
        plan=plan.trials,
        budget=Budget(run.request.refine_budget_s if run.request.strategy == "auto" else None),
        report=SearchReport(_records(plan), expectations, tried_before=run.report.tried),
        rates=LearningRates(asked.learning_rate != "auto" or asked.learning_rate_multiplier != "auto"),
    )
    if plan.entrants:
        yield from _search(context, plan)
        run.report.add_seconds("refining", context.budget.spent_s)
    _publish_report(context)
    run.report.keep_outcomes(outcomes.list_outcomes(run, first, situation, context.report.records))


def _plan(run: EncodedRun, situation: Situation, head_score: float, prior: Prior) -> SearchPlan:
    """Ask `policy` about this run.

    A candidate that earlier jobs tried often enough goes straight to its trial, on half the splits: they count too.
    """
    # Held out are rows whose features are kept, as the head's: others are only learned from.
    asked, answers = run.request.strategy, situation.answers
    auto, rows = asked == "auto", run.rows_read
    found = candidates.list_candidates(run, situation) if auto else [candidates.settle_strategy(run, asked)]
    expected = prior.expected([candidate.name for candidate in found])
    if auto:
        verdict = policy.worth_trying(expected, score=head_score, answers=answers)
    else:
        verdict = Verdict(asked, 0.0, 0.0, "the job asks for it")
    plan = trial_plans.plan_trials(answers, rows=rows, validated=run.validation is not None)
    if verdict.strategy is None:
        return SearchPlan(verdict, tuple(found), expected, plan)
    names = policy.choose_entrants(expected, {name for name in expected if prior.is_known(name)})
    if auto and prior.is_known(names[0]):
        plan = plan.shortened(answers)
    found = [
        candidates.with_epochs_of_earlier_jobs(candidate, prior, run.request.hyperparameters)
        if candidate.name in names
        else candidate
        for candidate in found
    ]
    entrants = tuple(sorted((each for each in found if each.name in names), key=lambda each: names.index(each.name)))
    if not policy.may_race(answers):
        return SearchPlan(verdict, tuple(found), expected, plan, entrants[:1], later=entrants[1:])
    rungs = trial_plans.plan_rungs(len(entrants), rows=situation.rows, answers=answers)
    rungs = rungs[: trial_plans.worthwhile_rungs(racing.work(entrants, rungs, rows), entrants[0].work(plan.work(rows)))]
    if auto and rungs and _race_takes_too_long(run, plan, prior, entrants, rungs[0]):
        return SearchPlan(verdict, tuple(found), expected, plan, entrants[:1], entrants[1:])
    return SearchPlan(verdict, tuple(found), expected, plan, entrants, rungs=tuple(rungs))


def _race_takes_too_long(
    run: EncodedRun, plan: TrialPlan, prior: Prior, entrants: tuple[Candidate, ...], rung: Rung
) -> bool:
    """Return whether, at earlier jobs' speed, the budget is too small for the first rung and the favourite's trial."""
    favourite, rows = entrants[0], run.rows_read
    row_s = prior.seconds_per_row_epoch(favourite.name)
    if row_s is None:
        return False
    work = racing.work(entrants, [rung], rows)[0] + favourite.work(plan.work(rows))
    return row_s * work / favourite.weight > run.request.refine_budget_s


def _records(plan: SearchPlan) -> list[CandidateRecord]:
    records = [CandidateRecord(candidate, plan.expected[candidate.name]) for candidate in plan.candidates]
    for record in records:
        if record.candidate in plan.unaffordable:
            record.left_at = "budget"
    return records


def _expectations(run: EncodedRun, plan: SearchPlan, prior: Prior, head_score: float) -> Expectations:
    rows = run.rows_read
    return Expectations(
        verdict=asdict(plan.verdict),
        earlier_jobs=prior.jobs(),
        head_score=head_score,
        work={candidate.name: candidate.work(plan.trials.work(rows)) for candidate in plan.candidates},
        work_of_every_strategy=sum(
            each.work(plan.trials.most_work(rows, final_fits=_final_fits(plan.trials, each)))
            for each in candidates.list_all_strategies(run)
        ),
    )


def _search(context: SearchContext, plan: SearchPlan) -> Iterator[TrainEvent]:
    """Race, try and train; with less of all that where the budget is too small for it.

    What comes later in the plan is tried where the budget has the time for it.
    """
    run, budget, report, favourite = context.run, context.budget, context.report, plan.entrants[0]
    try:
        try:
            budget.plan(favourite.work(context.plan.work(run.rows_read)))
            winner: Candidate | None = favourite
            if plan.rungs:
                race = Race(plan.rungs, partial(trials.prepare_rung, context), budget, report)
                winner = yield from race.run(plan.entrants)
            if winner is None:
                return
            for favourite in (winner, *plan.later):
                budget.replan(favourite.work(context.plan.work(run.rows_read)))
                try:
                    if (yield from _try_and_train(context, favourite)):
                        break
                except Diverged:
                    if run.request.strategy != "auto":
                        raise
                    report.abandon(diverged=True)
        except OverBudget:
            fixed = run.request.hyperparameters.n_epochs != "auto"
            ways = reductions(favourite, plan.candidates, context.plan, epochs_fixed=fixed)
            found = find_affordable(ways, budget, run.rows_read)
            if found is None:
                raise
            budget.replan(found.candidate.work(found.trials.work(run.rows_read)))
            report.set_stage(favourite, "budget")
            report.reduce(found.candidate, splits=found.trials.used)
            yield from _try_and_train(replace(context, plan=found.trials), found.candidate)
    except (Diverged, OverBudget) as error:
        diverged = isinstance(error, Diverged)
        if diverged and run.request.strategy != "auto":
            raise
        report.abandon(diverged=diverged)


def _try_and_train(context: SearchContext, candidate: Candidate) -> Generator[TrainEvent, None, bool]:
    """Run the trial of a candidate; train it on all rows, and return True, if it improves or if the job asks for it."""
    run, report = context.run, context.report
    report.set_stage(candidate, "trial")
    with context.metered(candidate):
        average = WeightAverage()
        trial = yield from trials.run_trials(context, candidate, average)
    report.add_trial(candidate, trial)
    candidate = context.rates.apply(candidate)
    _publish_report(context)
    improves = policy.improves(trial.figures)
    if not improves and run.request.strategy == "auto":
        return False
    run.report.keep_curve(_curve(trial))
    with context.metered(candidate):
        network, averaged = yield from _train_on_all(context, candidate, trial, average)
    report.set_stage(candidate, "trained on all rows")
    yield Progress("evaluating", ENDS, metrics={"score": trial.new.score.value})
    trained = _trained(context, candidate, trial, network, averaged=averaged)
    run.report.add_seconds("refining", context.budget.spent_s)
    _publish_report(context)
    run.measured[trained.name] = Measured(trial.new, trial.held)
    yield publish(run.run, trained, improves=improves)
    return True


def _curve(trial: Trial) -> list[CurvePoint]:
    """Return the epochs of a trial, as they were on its held-out rows."""
    epochs = (moment for moment in trial.curve if moment["blend"] == 1.0)
    return [
        CurvePoint(
            int(moment["epoch"]), moment["training_loss"], valid_loss=moment["log_loss"], valid_accuracy=moment["score"]
        )
        for moment in epochs
    ]


def _train_on_all(
    context: SearchContext, candidate: Candidate, trial: Trial, average: WeightAverage
) -> Generator[TrainEvent, None, tuple[Network, int]]:
    """Train on all rows. Returns the network, and of how many fits its weights are the mean: of the trial's as well.

    Of few rows there is more than one fit, as far as the budget goes.
    """
    run, first = context.run, context.first
    everything = np.arange(len(run.training.corpus))
    rows = splits.all_rows(run, first)
    work = candidate.with_epochs(trial.epochs).work(len(rows.tokens))
    context.budget.replan(work)
    start = splits.start_on_all(run, first)
    job = FitJob(candidate.name, "final", candidate.config, start, everything, rows, epochs=trial.epochs)
    with context.budget.overrun():
        fitted = yield from trials.fit_candidate(context, candidate, job, "all rows")
    # The mean of two may be worse than the one that saw all rows; and the trial's fits have gone on to their end.
    if average.fits < trial_plans.LEAST_TRIAL_FITS or trial.epochs != candidate.config.epochs:
        average = WeightAverage()
    fits = _final_fits(context.plan, candidate)
    for number in range(1, fits):
        if not context.budget.plan_if_affordable(work):
            break
        label = f"all rows, fit {number + 1} of at most {fits}"
        again = replace(job, name=f"final-{number}", number=number)
        try:
            average.add((yield from trials.fit_candidate(context, candidate, again, label)).network)
        except (OverBudget, Diverged):
            context.budget.abandon(work)
            break
    if average.fits:
        average.include(fitted.network)
    blend(fitted.network, fitted.start, trial.blend)
    return fitted.network, 1 + average.fits


def _final_fits(plan: TrialPlan, candidate: Candidate) -> int:
    """Return on how many fits of all rows a candidate may be averaged."""
    return plan.final_fits if averaging.suits(candidate.config) else 1


def _trained(context: SearchContext, candidate: Candidate, trial: Trial, network: Network, *, averaged: int) -> Trained:
    run, first, config = context.run, context.first, candidate.config
    sets = {names: name for name, names in run.backbone.feature_sets().items()}
    return Trained(
        name=config.strategy.name,
        features=network.features,
        parts=(*parts_of(network.head(), trial.stack), *own_parts(network, config, run.backbone.dtype)),
        evaluation=trial.new.evaluation(trial.held, run.task, run.labels),
        hyperparameters={
            **first.trained.hyperparameters,
            "features": sets.get(network.features, first.choice.features),
            "n_epochs": trial.epochs,
            "scheduled_epochs": config.epochs,
            "batch_size": config.batch_size,
            "lexical": trial.stack is not None and trial.stack.part is not None,
            "learning_rate": config.learning_rate,
            "learning_rate_multiplier": config.learning_rate_multiplier,
            "head_learning_rate": config.head_learning_rate,
            "lora_rank": config.lora_rank or None,
            "trainable_blocks": run.backbone.blocks - network.first_block,
            "blend": trial.blend,
            "contrastive": config.contrastive,
            "averaged_fits": averaged,
        },
        details={"first_own_block": network.first_block, "lora_rank": config.lora_rank},
    )


def _publish_report(context: SearchContext) -> None:
    """Bring the run's report up to date."""
    context.run.report.replace_tried(context.report.strategies_tried())
    context.run.report.state(refinement=context.report.refinement(context.budget.spent_s))
