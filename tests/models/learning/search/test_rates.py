"""A candidate whose first epoch loses what the head knew is trained more slowly, twice at most."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.learning.contract.request import Hyperparameters
from models.learning.finetuning.strategies import FINE_TUNING_STRATEGIES, settle
from models.learning.search.candidates import Candidate
from models.learning.search.rates import LearningRates, loses_head
from models.learning.tasks.link_functions import SOFTMAX


def _candidate(strategy: str = "partial") -> Candidate:
    config = settle(FINE_TUNING_STRATEGIES[strategy], Hyperparameters(), rows=400, blocks=6)
    return Candidate(strategy, config, 2.0)


def test_a_candidate_is_slowed_twice_and_no_other_is() -> None:
    rates, slow, other = LearningRates(fixed=False), _candidate(), _candidate("lora")
    found = []
    while rates.may_slow(slow):
        rates.slow(slow)
        found.append(rates.apply(slow).config.learning_rate / slow.config.learning_rate)
    assert found == pytest.approx([0.3, 0.09])
    assert rates.apply(slow).config.head_learning_rate == pytest.approx(0.09 * slow.config.head_learning_rate)
    assert rates.apply(other) == other
    assert rates.apply(replace(slow, name="partial-5")).config == slow.config


def test_checkpoints_of_two_rates_have_two_names() -> None:
    rates, candidate = LearningRates(fixed=False), _candidate()
    assert rates.name_of(candidate, "trial-0") == "trial-0"
    rates.slow(candidate)
    assert rates.name_of(candidate, "trial-0") == "trial-0-rate-0.3"


def test_a_rate_of_the_customers_own_and_a_network_from_scratch_stay_as_they_are() -> None:
    assert not LearningRates(fixed=True).may_slow(_candidate())
    assert not LearningRates(fixed=False).may_slow(_candidate("scratch"))


@pytest.mark.parametrize(("share_wrong", "loses"), [(0.02, False), (0.05, False), (0.3, True)])
def test_losing_is_more_loss_than_noise(share_wrong: float, loses: bool) -> None:
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 4, 400)

    def logits(wrong: float) -> np.ndarray:
        said = np.where(generator.uniform(size=400) < wrong, generator.integers(0, 4, 400), targets)
        return (3 * np.eye(4)[said] + 0.3 * generator.normal(size=(400, 4))).astype(np.float32)

    assert loses_head(logits(share_wrong), logits(0.05), targets, SOFTMAX) == loses
