"""The mean of several fits' weights: of which fits it is a model, and that heads are averaged on raw features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.backbones.text import TextBackbone
from models.learning.contract.request import Hyperparameters
from models.learning.finetuning import averaging, network
from models.learning.finetuning.averaging import WeightAverage
from models.learning.finetuning.network import Network
from models.learning.finetuning.strategies import CONTRASTIVE, FINE_TUNING_STRATEGIES, settle
from models.learning.heads.linear import Head

NAMES = ("unit_mean.6",)
CONFIG = settle(FINE_TUNING_STRATEGIES["partial"], Hyperparameters(trainable_blocks=1), rows=48, blocks=6)


def _fitted(backbone: TextBackbone, seed: int) -> Network:
    """A network with a head of its own, standardised by rows of its own, whose block has moved."""
    generator = np.random.default_rng(seed)
    features_NF = generator.normal(seed, 1 + seed, (20, backbone.feature_width(NAMES[0]))).astype(np.float32)
    head = Head(generator.normal(size=(3, features_NF.shape[1])).astype(np.float32), np.ones(3, dtype=np.float32))
    net = network.build(backbone, CONFIG, NAMES, head, features_NF, seed=seed)
    for name, value in net.masters.items():
        if not name.startswith("head_"):
            value.add_(0.1 * seed)
    net.take_masters()
    return net


def test_the_mean_of_heads_is_that_of_their_answers(small_backbone: TextBackbone) -> None:
    nets = [_fitted(small_backbone, seed) for seed in range(3)]
    heads = [net.head() for net in nets]
    average = WeightAverage()
    for net in nets[:2]:
        average.add(net)
    average.include(nets[2])
    assert average.fits == 2
    mean = nets[2].head()
    np.testing.assert_allclose(mean.weight_KF, np.mean([head.weight_KF for head in heads], axis=0), atol=1e-5)
    np.testing.assert_allclose(mean.bias_K, np.mean([head.bias_K for head in heads], axis=0), atol=1e-3)
    for name, value in nets[2].masters.items():
        if not name.startswith("head_"):
            torch.testing.assert_close(value, nets[0].masters[name] + 0.1)  # the mean of 0, 0.1 and 0.2
            torch.testing.assert_close(nets[2].trained[name], value.to(small_backbone.dtype))


@pytest.mark.parametrize(
    ("strategy", "suits"), [("partial", True), ("full", True), ("lora", False), ("scratch", False)]
)
def test_of_which_fits_the_mean_is_a_model(strategy: str, suits: bool) -> None:
    settled = settle(FINE_TUNING_STRATEGIES[strategy], Hyperparameters(), rows=48, blocks=6)
    assert averaging.suits(settled) is suits


def test_a_head_that_is_fitted_anew_suits_its_own_base_alone() -> None:
    assert not averaging.suits(settle(CONTRASTIVE, Hyperparameters(), rows=48, blocks=6))
