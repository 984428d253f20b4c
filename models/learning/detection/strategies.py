"""The strategies as data: what trains, how fast, how long."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from models.learning.contract.errors import InvalidHyperparameters
from models.learning.contract.request import Hyperparameters


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """A strategy with every number settled."""

    strategy: str
    pictures: int
    batch_size: int
    steps: int
    learning_rate: float  # of pyramid and head
    base_rate: float  # of the base's blocks, as a share of it
    weight_decay: float
    trainable_blocks: int | None  # from the top; None: all, and the embeddings
    views: int  # of each picture

    def with_views(self, views: int) -> TrainingConfig:
        """Return the same with so many views of each picture."""
        return replace(self, views=views)

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every picture is seen once."""
        return max(1, math.ceil(self.pictures / self.batch_size))


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a strategy takes where the customer says nothing.

    `rate` is that of the heads alone; behind trained heads everything learns at `tuned_rate`, of which the base's part
    takes `base_share`.
    """

    head_views: int
    rate: float
    tuned_rate: float
    base_share: float
    weight_decay: float


# Measured on raccoons (160 pictures, 256 pixels): AP50 0.78 after 600 views, 0.90 after 1,200, 0.92 after 2,400.
# On two cores without AVX-512 and nothing beside it 1,200 took 65 seconds.
FIRST_VIEWS = 1_000  # that are learned from before the first version is published
_EPOCHS, _MOST_EPOCHS = 12, 100  # of many pictures each is seen so often at least, of a handful so often at most
_MOST_VIEWS = 16  # of one picture: beyond, new ones teach little
_BATCH = 8
# Behind a base that trains pyramid and head are slower: they have learned before.
PYRAMID = Numbers(head_views=4_800, rate=2e-3, tuned_rate=5e-4, base_share=0.05, weight_decay=0.05)
# Every view costs a pass of the whole detector, so its heads see no more than a first version does. The rates behind
# them are those of RT-DETR's authors, 1e-4 and a tenth of it for the convolutions below, and so is the decay: parts of
# D-FINE that its loss does not reach are to stay as they are.
PRETRAINED = Numbers(head_views=FIRST_VIEWS, rate=5e-4, tuned_rate=1e-4, base_share=0.1, weight_decay=1e-4)
_TUNED_EPOCHS = 20
_PARTIAL_SHARE = 3  # a third of the blocks


def check(strategy: str, asked: Hyperparameters) -> None:
    """Raise InvalidHyperparameters for blocks of the base that are to train and are none; before anything is trained.

    Where a strategy trains none, or all, the number has no effect, and the report says so.
    """
    if strategy == "partial" and asked.trainable_blocks != "auto" and int(asked.trainable_blocks) < 1:
        raise InvalidHyperparameters(
            name="trainable_blocks",
            value=asked.trainable_blocks,
            reason="'partial' trains one block of the base at least; 'head' trains none",
        )


def settle(strategy: str, asked: Hyperparameters, numbers: Numbers, *, pictures: int, blocks: int) -> TrainingConfig:
    """Take the customer's numbers, which passed `check`, and the strategy's own elsewhere.

    `blocks`: those of the base that the model reads. A customer counts all of the base's: with more than are read,
    all that are read train.
    """
    batch_size = min(_BATCH if asked.batch_size == "auto" else int(asked.batch_size), pictures)
    multiplier = 1.0 if asked.learning_rate_multiplier == "auto" else float(asked.learning_rate_multiplier)
    is_head = strategy == "head"
    rate = (
        (numbers.rate if is_head else numbers.tuned_rate)
        if asked.learning_rate == "auto"
        else float(asked.learning_rate)
    )
    per_epoch = math.ceil(pictures / batch_size)
    if asked.n_epochs != "auto":
        steps = int(asked.n_epochs) * per_epoch
    elif is_head:
        views = min(numbers.head_views, max(FIRST_VIEWS, _MOST_EPOCHS * pictures))
        steps = max(math.ceil(views / batch_size), _EPOCHS * per_epoch)
    else:
        steps = _TUNED_EPOCHS * per_epoch
    trainable: int | None = 0 if is_head else None if strategy == "full" else max(1, blocks // _PARTIAL_SHARE)
    if strategy == "partial" and asked.trainable_blocks != "auto":
        trainable = min(int(asked.trainable_blocks), blocks)
    return TrainingConfig(
        strategy=strategy,
        pictures=pictures,
        batch_size=batch_size,
        steps=steps,
        learning_rate=rate * multiplier,
        base_rate=numbers.base_share,
        weight_decay=numbers.weight_decay,
        trainable_blocks=trainable,
        views=_MOST_VIEWS,
    )


def fitting(config: TrainingConfig, *, done: int, seconds: float, budget_s: float) -> TrainingConfig:
    """Return the same with no more steps than fit a budget, where the first `done` took so many seconds.

    They are fewer epochs, one at least, and not an end on the way: the rate is to come down to zero.
    """
    if seconds <= 0:
        return config
    steps = done + math.floor(min(budget_s * done / seconds, config.steps))
    return replace(config, steps=min(config.steps, max(steps, config.steps_per_epoch)))


def first_steps(config: TrainingConfig) -> int:
    """Return after how many steps of the head the first version is published."""
    return min(config.steps, math.ceil(FIRST_VIEWS / config.batch_size))
