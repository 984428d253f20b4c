"""How a strategy's numbers and the customer's become a training configuration."""

from __future__ import annotations

import pytest

from models.learning.contract.errors import InvalidHyperparameters
from models.learning.contract.request import Hyperparameters
from models.learning.finetuning.strategies import FINE_TUNING_STRATEGIES, settle


@pytest.mark.parametrize(
    ("strategy", "asked", "settled"),
    [
        ("partial", {}, {"epochs": 5, "learning_rate": 1e-4, "head_learning_rate": 1e-3, "trainable_blocks": 6}),
        ("partial", {"trainable_blocks": 2}, {"trainable_blocks": 2}),
        ("full", {"trainable_blocks": 2}, {"trainable_blocks": None}),  # of `full` all train
        ("lora", {}, {"lora_rank": 8, "trainable_blocks": 0}),
        ("lora", {"lora_rank": 2}, {"lora_rank": 2}),
        ("partial", {"lora_rank": 2}, {"lora_rank": 0}),
        ("partial", {"n_epochs": 2}, {"epochs": 2}),
        ("partial", {"learning_rate": 1e-3}, {"learning_rate": 1e-3, "head_learning_rate": 1e-3}),
        ("partial", {"learning_rate_multiplier": 2.0}, {"learning_rate": 2e-4, "head_learning_rate": 2e-3}),
        ("partial", {"batch_size": 16}, {"batch_size": 16}),
        ("partial", {"batch_size": 9_999}, {"batch_size": 600}),  # not more than there are rows
    ],
)
def test_settled_numbers(strategy: str, asked: dict[str, object], settled: dict[str, object]) -> None:
    hyperparameters = Hyperparameters(**asked)  # type: ignore[arg-type]
    found = settle(FINE_TUNING_STRATEGIES[strategy], hyperparameters, rows=600, blocks=12)
    assert {name: getattr(found, name) for name in settled} == settled


@pytest.mark.parametrize(("rows", "size"), [(10, 4), (47, 4), (60, 5), (384, 32), (100_000, 32)])
def test_batches_are_small_where_rows_are_few(rows: int, size: int) -> None:
    assert settle(FINE_TUNING_STRATEGIES["lora"], Hyperparameters(), rows=rows, blocks=12).batch_size == size


def test_a_base_with_few_blocks_trains_them_all() -> None:
    found = settle(FINE_TUNING_STRATEGIES["partial"], Hyperparameters(), rows=600, blocks=2)
    assert found.trainable_blocks == 2


def test_more_blocks_than_there_are_is_an_error() -> None:
    with pytest.raises(InvalidHyperparameters, match="the base has 2 blocks"):
        settle(FINE_TUNING_STRATEGIES["partial"], Hyperparameters(trainable_blocks=3), rows=600, blocks=2)


@pytest.mark.parametrize(
    ("name", "rows", "epochs"),
    [("partial", 2_999, 5), ("partial", 3_000, 3), ("full", 4_000, 3), ("lora", 9_000, 4), ("scratch", 90_000, 20)],
)
def test_many_rows_need_fewer_epochs(name: str, rows: int, epochs: int) -> None:
    strategy = FINE_TUNING_STRATEGIES[name]
    assert settle(strategy, Hyperparameters(), rows=rows, blocks=6).epochs == epochs
    assert settle(strategy, Hyperparameters(n_epochs=7), rows=rows, blocks=6).epochs == 7
