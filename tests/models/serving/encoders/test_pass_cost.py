from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from models.serving.encoders.pass_cost import LEAST_PASS_TOKENS, PassCost, next_pass
from models.serving.fair_queue import FairQueue


def _after(
    start_s: float, token_s: float, *, passes: int, sizes: tuple[int, int] = (8, 96), known: PassCost | None = None
) -> PassCost:
    """The cost after passes of a machine, each up to a fifth slower or quicker than it should be."""
    cost, draw = known or PassCost(), np.random.default_rng(7)
    for _ in range(passes):
        tokens = int(draw.integers(*sizes))
        cost.observe(tokens, 1 + tokens // 15, (start_s + token_s * tokens) * draw.uniform(0.8, 1.2))
    return cost


@pytest.mark.parametrize(("start_s", "token_s"), [(4.5e-3, 0.66e-3), (2.4e-3, 0.037e-3)], ids=["avx2", "amx"])
def test_start_and_tokens_are_told_apart(start_s: float, token_s: float) -> None:
    cost = _after(start_s, token_s, passes=100)
    assert cost.fixed_tokens == pytest.approx(start_s / token_s, rel=0.25)


@dataclass(eq=False)
class Row:
    owner: int
    cost: int = 10


def _taken(cost: PassCost, rows: int, *, most: int = 1_000, takers: int = 2) -> int:
    """The tokens of a pass that is taken from as many customers with a row each."""
    queue: FairQueue[Row] = FairQueue(quantum=16)
    for owner in range(rows):
        queue.put(owner, [Row(owner)])
    return sum(row.cost for row in next_pass(queue, cost, most=most, takers=takers))


def test_a_pass_is_as_long_as_pays_off() -> None:
    slow, cheap = (_after(*machine, passes=100) for machine in ((20e-3, 1e-3), (0, 2e-3)))
    assert _taken(slow, 1_000) == pytest.approx(8 * 20, rel=0.25)
    assert _taken(slow, 1_000, most=100) == 100
    assert _taken(cheap, 1_000) <= 2 * LEAST_PASS_TOKENS


def test_little_is_not_divided_between_threads() -> None:
    cost = _after(20e-3, 1e-3, passes=100)
    assert _taken(cost, 2) == 20
    assert _taken(cost, 14) == 70
    assert _taken(cost, 14, takers=1) == 140


def test_what_was_learned_from_odd_passes_is_not_believed_for_ever() -> None:
    cost = PassCost()
    for rows in [5, 40, 20] * 30:  # of one token each: what a row costs looks like what a pass costs
        cost.observe(rows, rows, 0.2 + 0.0001 * rows)
    assert cost.fixed_tokens > 100
    draw = np.random.default_rng(0)
    for _ in range(500):
        tokens = _taken(cost, 100, most=320)
        cost.observe(tokens, tokens // 15, (8.5e-3 + 0.68e-3 * tokens) * draw.uniform(0.8, 1.2))
    assert cost.fixed_tokens == pytest.approx(12.5, rel=0.5)


def test_a_machine_that_becomes_busy_is_noticed() -> None:
    cost = _after(2.4e-3, 0.037e-3, passes=100)
    rate = cost.rows_per_s
    _after(24e-3, 0.37e-3, passes=200, known=cost)
    assert cost.rows_per_s == pytest.approx(rate / 10, rel=0.2)


@pytest.mark.parametrize("tokens", [13, 96])
def test_a_pass_that_stalls_counts_for_little(tokens: int) -> None:
    cost = _after(8.5e-3, 0.68e-3, passes=100)
    cost.observe(tokens, 1, 1.0)
    assert cost.fixed_tokens == pytest.approx(12.5, rel=0.5)


def test_before_the_first_pass_something_is_believed() -> None:
    cost = PassCost()
    assert _taken(cost, 1_000) >= LEAST_PASS_TOKENS
    assert cost.rows_per_s > 0
    cost.observe(1, 1, 0.0)
    assert _taken(cost, 1_000) >= LEAST_PASS_TOKENS
