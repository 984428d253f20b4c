"""The strategies as data: what trains, how fast, how long."""

from __future__ import annotations

from dataclasses import dataclass

from models.learning.contract.errors import InvalidHyperparameters
from models.learning.contract.request import Hyperparameters

PROMPTED = ("zero-shot", "few-shot")
PAIRS_BETA = 0.1  # OpenAI's default, and the DPO paper's


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """A strategy with every number settled. `rank` 0: whole blocks train, `trainable_blocks` of them from the top."""

    strategy: str
    epochs: int
    batch_size: int
    learning_rate: float
    rank: int
    trainable_blocks: int
    beta: float  # of DPO; 0: answers are learned, not preferences


# Rates at which a 135 M base learned 600 rows best of those tried; blocks of its own take a tenth of what matrices do.
_RATES = {"lora": 5e-4, "partial": 5e-5, "full": 3e-5}
_PAIRS_RATE = 0.2  # of the rate: DPO overshoots at the rate of supervised training
_RANK = 8
_PARTIAL_SHARE = 3  # a third of the blocks


def settle(strategy: str, asked: Hyperparameters, *, rows: int, blocks: int, pairs: bool) -> TrainingConfig:
    """Take the customer's numbers, and the strategy's own elsewhere. Raises InvalidHyperparameters."""
    if asked.trainable_blocks != "auto" and not 1 <= int(asked.trainable_blocks) <= blocks:
        raise InvalidHyperparameters(
            name="trainable_blocks", value=asked.trainable_blocks, reason=f"the base has {blocks} blocks"
        )
    rate = _RATES[strategy] * (_PAIRS_RATE if pairs else 1.0)
    rate = rate if asked.learning_rate == "auto" else float(asked.learning_rate)
    multiplier = 1.0 if asked.learning_rate_multiplier == "auto" else float(asked.learning_rate_multiplier)
    trainable = {"lora": 0, "partial": max(1, blocks // _PARTIAL_SHARE), "full": blocks}[strategy]
    if strategy == "partial" and asked.trainable_blocks != "auto":
        trainable = int(asked.trainable_blocks)
    return TrainingConfig(
        strategy=strategy,
        epochs=_epochs(rows) if asked.n_epochs == "auto" else int(asked.n_epochs),
        batch_size=_batch_size(rows) if asked.batch_size == "auto" else min(int(asked.batch_size), rows),
        learning_rate=rate * multiplier,
        rank=0 if strategy != "lora" else _RANK if asked.lora_rank == "auto" else int(asked.lora_rank),
        trainable_blocks=trainable,
        beta=0.0 if not pairs else PAIRS_BETA if asked.beta == "auto" else float(asked.beta),
    )


def _epochs(rows: int) -> int:
    """Return three, fewer where there are many rows: about a thousand rows are seen, and every row once."""
    return max(1, min(3, round(1_500 / max(rows, 1))))


def _batch_size(rows: int) -> int:
    """Return 8, less where an epoch would have fewer than a dozen steps."""
    return max(1, min(8, rows // 12))
