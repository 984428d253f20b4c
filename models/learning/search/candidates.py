"""Candidates: strategies with every number settled for this run, and the cost of a row for each of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from models.learning.contract.request import Hyperparameters
from models.learning.finetuning.strategies import CONTRASTIVE, FINE_TUNING_STRATEGIES, TrainingConfig, settle
from models.learning.heads.encoding import EncodedRun
from models.learning.search import policy
from models.learning.search.priors import Prior
from models.learning.search.situation import Situation

# Gradients cost two passes through what trains; through what does not, low-rank matrices still need one.
_GRADIENTS, _PASSED_GRADIENTS = 2.0, 1.25
_HEAD_ANEW = 1.0  # a pass of the rows whose head is fitted after each epoch


@dataclass(frozen=True, slots=True)
class Candidate:
    """One strategy and all of its settings, as the search may try it."""

    name: str  # unique among the candidates of a run
    config: TrainingConfig
    weight: float  # cost of a row in an epoch, in passes through the whole frozen base

    def with_epochs(self, epochs: int) -> Candidate:
        """Return the same candidate with another number of epochs."""
        return replace(self, config=replace(self.config, epochs=epochs))

    def work(self, rows: float) -> float:
        """Return the cost of all epochs, each over so many rows."""
        return rows * self.config.epochs * self.weight


def settle_strategy(run: EncodedRun, strategy: str) -> Candidate:
    """Return the candidate of a strategy as it is. Raises InvalidHyperparameters."""
    return _settled(run, strategy, None)


def list_candidates(run: EncodedRun, situation: Situation) -> list[Candidate]:
    """Return the candidates that make sense for the base, the rows and the situation, the default choice first."""
    free = run.request.hyperparameters.trainable_blocks == "auto"
    job = policy.JobFacts(
        rows=run.rows_read,
        answers=situation.answers * run.rows_read / situation.rows,
        large=situation.size == "large",
        similar=situation.similarity == "similar",
        blocks=run.backbone.blocks,
        linear_layers=run.backbone.linear,
        partial_blocks=settle_strategy(run, "partial").config.trainable_blocks if free else None,
        contrasted_rows=situation.rows_per_class if run.task.name == "text-classification" else 0.0,
    )
    return [_settled(run, strategy, blocks) for strategy, blocks in policy.list_strategies(job)]


def list_all_strategies(run: EncodedRun) -> list[Candidate]:
    """Return a candidate for every strategy that the base can take."""
    return [settle_strategy(run, name) for name in FINE_TUNING_STRATEGIES if name != "lora" or run.backbone.linear]


def with_epochs_of_earlier_jobs(candidate: Candidate, prior: Prior, asked: Hyperparameters) -> Candidate:
    """Return the candidate with as many epochs as served earlier jobs; the customer's own number is never changed."""
    if asked.n_epochs != "auto":
        return candidate
    return candidate.with_epochs(prior.epochs(candidate.name, candidate.config.epochs))


def _settled(run: EncodedRun, strategy: str, trainable_blocks: int | None) -> Candidate:
    blocks = run.backbone.blocks
    entry = CONTRASTIVE if strategy == policy.CONTRASTIVE else FINE_TUNING_STRATEGIES[strategy]
    config = settle(entry, run.request.hyperparameters, rows=len(run.training.corpus), blocks=blocks)
    name = strategy
    if trainable_blocks is not None:
        config, name = replace(config, trainable_blocks=trainable_blocks), f"{strategy}-{trainable_blocks}"
    if config.lora_rank:
        return Candidate(name, config, 1.0 + _PASSED_GRADIENTS)
    trained = blocks if config.trainable_blocks is None else config.trainable_blocks
    weight = 1.0 + _GRADIENTS * trained / blocks
    return Candidate(name, config, config.passes * weight + _HEAD_ANEW if config.contrastive else weight)
