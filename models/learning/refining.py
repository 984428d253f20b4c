"""Whether to refine the first version, and how: trials on held-out rows first, a model on all rows if they say so.

A trial trains on a part of the rows from a head that was fitted on that part alone, and answers the rest. Head and
refined model are compared on exactly those answers. Only then is a model trained on all rows, for as many epochs as
served the trials best: early stopping costs no rows.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
import torch

from models.learning import refinement, trials
from models.learning.events import Progress, TrainEvent
from models.learning.first_version import FirstVersion
from models.learning.network import Network, blend, own_tensors, trained_values
from models.learning.plans import TrialPlan, plan_trials, worth_trying
from models.learning.refinement import Epoch
from models.learning.run import Run, Trained, write_candidate
from models.learning.strategies import STRATEGIES, Schedule, settle
from models.learning.trials import ENDS, Clock, OverBudget, Trial


def refine(run: Run, first: FirstVersion) -> Iterator[TrainEvent]:
    """Candidates beyond the first version; in `auto` only those that are better than it."""
    asked = run.request.strategy
    if asked in ("head", "zero-shot"):
        return
    if asked == "auto":
        verdict = worth_trying(first, rows=len(run.training.corpus))
        run.report["refinement"] = verdict.as_dict()
        if verdict.strategy is None:
            return
        strategy = STRATEGIES[verdict.strategy]
    else:
        strategy = STRATEGIES[asked]
    schedule = settle(strategy, run.request.hyperparameters, rows=len(run.training.corpus), blocks=run.backbone.blocks)
    plan = plan_trials(len(run.training.corpus), validated=run.validation is not None)
    limit_s = run.request.refine_budget_s if asked == "auto" else None
    work = plan.work(len(run.training.corpus)) + run.rows_beyond * (plan.least + 1)
    clock = Clock(run, work * schedule.epochs, limit_s, time.monotonic())
    try:
        yield from _race(run, first, schedule, plan, clock)
    except OverBudget:
        run.tried.append(
            {
                "name": strategy.name,
                "abandoned": "it would have taken longer than the budget for refinement",
                "seconds": round(time.monotonic() - clock.began, 3),
            }
        )


def _race(run: Run, first: FirstVersion, schedule: Schedule, plan: TrialPlan, clock: Clock) -> Iterator[TrainEvent]:
    trial = yield from trials.hold(run, first, schedule, plan, clock)
    run.tried.append(_tried(schedule, trial, time.monotonic() - clock.began))
    if not trial.improves and run.request.strategy == "auto":
        run.seconds["refining"] = time.monotonic() - clock.began
        return
    network = yield from _train_on_all(run, first, schedule, trial, clock)
    yield Progress("evaluating", ENDS, metrics={"score": trial.new.score.value})
    trained = _trained(run, first, schedule, trial, network)
    run.seconds["refining"] = time.monotonic() - clock.began
    run.tried[-1]["seconds"] = round(run.seconds["refining"], 3)
    yield write_candidate(run, trained, trial.held, improves=trial.improves)


def _train_on_all(
    run: Run, first: FirstVersion, schedule: Schedule, trial: Trial, clock: Clock
) -> Generator[TrainEvent, None, Network]:
    everything = np.arange(len(run.training.corpus))
    network = trials.network_of(run, first, schedule, first.head, everything)
    start = trained_values(network)
    material = trials.material_of(run, first, everything, [])
    steps = refinement.fit(
        network,
        schedule,
        material,
        run.task.link,
        run.backbone,
        seed=run.request.seed,
        checkpoints=trials.checkpoints_of(run, schedule, "final"),
        stop=run.stop,
        epochs=trial.epochs,
    )
    epoch = 0
    for step in steps:
        if isinstance(step, Epoch):
            epoch = step.number
            message = f"all rows, epoch {epoch} of {trial.epochs}"
            yield clock.tell(len(material.tokens) * epoch, message, loss=step.loss, epoch=float(epoch))
        else:
            yield clock.tell(len(material.tokens) * (epoch + step), "all rows")
    run.tokens_used += epoch * sum(len(row) for row in material.tokens)
    blend(network, start, trial.blend)
    return network


def _trained(run: Run, first: FirstVersion, schedule: Schedule, trial: Trial, network: Network) -> Trained:
    head = network.head()
    tensors = {
        "head.weight": torch.from_numpy(head.weight_KF),
        "head.bias": torch.from_numpy(head.bias_K),
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


def _tried(schedule: Schedule, trial: Trial, seconds: float) -> dict[str, Any]:
    return {
        "name": schedule.strategy.name,
        "score": trial.new.score.value,
        "score_low": trial.new.score.low,
        "score_high": trial.new.score.high,
        "seconds": round(seconds, 3),
        "rows": len(trial.held.targets),
        "head_score_on_these_rows": trial.old.score.value,
        "gain": trial.comparison.gain,
        "gain_low": trial.comparison.low,
        "gain_high": trial.comparison.high,
        "probability_better": trial.comparison.probability,
        "mcnemar_p": trial.comparison.p_value,
        "epochs": trial.epochs,
        "blend": trial.blend,
        "curve": trial.curve,
    }
