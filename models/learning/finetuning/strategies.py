"""The strategies of transfer learning as data: which parameters train, from where, how fast. One loop runs them all."""

from __future__ import annotations

import math
from dataclasses import dataclass

from models.learning.contract.errors import InvalidHyperparameters
from models.learning.contract.request import Hyperparameters


@dataclass(frozen=True, slots=True)
class FineTuningStrategy:
    """One strategy. Rates are for AdamW with a linear warm-up and a cosine to zero."""

    name: str
    learning_rate: float  # of the base's parameters (or of the low-rank matrices)
    head_learning_rate: float  # of the head, on standardised features
    epochs: int
    lora_rank: int = 0  # > 0: matrices of this rank beside every linear layer, the base itself frozen
    trainable_blocks: int | None = 0  # how many top blocks train; None: all of them
    trainable_embeddings: bool = False
    random_weights: bool = False
    layer_decay: float = 1.0  # each block's rate is that of the next one times this
    contrastive: bool = False  # the base learns from pairs of rows, and the head is fitted anew after each epoch
    passes: int = 1  # over the rows, in an epoch


FINE_TUNING_STRATEGIES: dict[str, FineTuningStrategy] = {
    strategy.name: strategy
    for strategy in (
        FineTuningStrategy("lora", learning_rate=1e-3, head_learning_rate=1e-3, epochs=6, lora_rank=8),
        FineTuningStrategy("partial", learning_rate=1e-4, head_learning_rate=1e-3, epochs=5, trainable_blocks=6),
        FineTuningStrategy(
            "full",
            learning_rate=1e-4,
            head_learning_rate=1e-3,
            epochs=5,
            trainable_blocks=None,
            trainable_embeddings=True,
            layer_decay=0.9,
        ),
        FineTuningStrategy(
            "scratch",
            learning_rate=3e-4,
            head_learning_rate=1e-3,
            epochs=20,
            trainable_blocks=None,
            trainable_embeddings=True,
            random_weights=True,
        ),
    )
}

# `partial` for few rows of one label each: beside the others in `auto` only, where rows are few (decision 0045).
# A head that is fitted anew and held-out rows that are answered after every pass would cost a third more.
CONTRASTIVE = FineTuningStrategy(
    "partial", learning_rate=4.5e-5, head_learning_rate=1e-3, epochs=5, trainable_blocks=6, contrastive=True, passes=3
)


# Rows from which fewer epochs do as well: on trec (5,452 rows) 3 instead of 5 epochs of `full` 0.970 and 0.966, of
# `partial` 0.972 and 0.964; on banking77 (10,003), half-way back, 0.9412 and 0.9403 (decision 0052); on wnut17 (3,394)
# 0.582 and 0.573 of its dev rows, with dropout (decision 0041).
_MANY_ROWS, _SHARE_OF_MANY = 3_000, 0.6


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """A strategy with every number settled."""

    strategy: FineTuningStrategy
    epochs: int
    batch_size: int
    learning_rate: float
    head_learning_rate: float
    lora_rank: int
    trainable_blocks: int | None
    learning_rate_multiplier: float = 1.0  # which both rates have in them already
    contrastive: bool = False
    passes: int = 1  # over the rows, in an epoch


def settle(strategy: FineTuningStrategy, asked: Hyperparameters, *, rows: int, blocks: int) -> TrainingConfig:
    """Take the customer's numbers, and the strategy's own elsewhere. Raises InvalidHyperparameters."""
    if asked.trainable_blocks != "auto" and not 0 <= int(asked.trainable_blocks) <= blocks:
        raise InvalidHyperparameters(
            name="trainable_blocks", value=asked.trainable_blocks, reason=f"the base has {blocks} blocks"
        )
    multiplier = 1.0 if asked.learning_rate_multiplier == "auto" else float(asked.learning_rate_multiplier)
    rate = strategy.learning_rate if asked.learning_rate == "auto" else float(asked.learning_rate)
    trainable_blocks = strategy.trainable_blocks
    if strategy.name == "partial" and asked.trainable_blocks != "auto":
        trainable_blocks = int(asked.trainable_blocks)
    return TrainingConfig(
        strategy=strategy,
        epochs=_epochs(rows, strategy) if asked.n_epochs == "auto" else int(asked.n_epochs),
        batch_size=_batch_size(rows, strategy) if asked.batch_size == "auto" else min(int(asked.batch_size), rows),
        learning_rate=rate * multiplier,
        head_learning_rate=strategy.head_learning_rate * multiplier,
        lora_rank=strategy.lora_rank and (strategy.lora_rank if asked.lora_rank == "auto" else int(asked.lora_rank)),
        trainable_blocks=None if trainable_blocks is None else min(trainable_blocks, blocks),
        learning_rate_multiplier=multiplier,
        contrastive=strategy.contrastive,
        passes=strategy.passes,
    )


def _epochs(rows: int, strategy: FineTuningStrategy) -> int:
    """Return the strategy's number, or three fifths where many rows make many steps; random weights need them all."""
    many = rows >= _MANY_ROWS and not strategy.random_weights
    return math.ceil(_SHARE_OF_MANY * strategy.epochs) if many else strategy.epochs


def _batch_size(rows: int, strategy: FineTuningStrategy) -> int:
    """Return 32, less where an epoch would have fewer than a dozen steps; 16 where rows learn from each other.

    Sixteen are four classes of four: many short steps at a low rate are better than few long ones (decision 0045).
    """
    return min(16, rows) if strategy.contrastive else max(4, min(32, rows // 12))
