"""The mean of the weights of several fits from one base: a "soup" (Wortsman et al. 2022, arXiv:2203.05482).

Fits of a few epochs from the same pretrained weights end in one valley, whatever rows each of them has seen; their mean
lies nearer to its middle than any of them.
"""

from __future__ import annotations

from torch import Tensor

from models.learning.finetuning.network import Network
from models.learning.finetuning.strategies import TrainingConfig


def suits(config: TrainingConfig) -> bool:
    """Return whether the mean of such fits' weights is a model.

    Not of low-rank matrices, where the mean of products is no product of means, nor from random weights, where each fit
    finds a valley of its own; and a head that was fitted anew to one base's features does not suit the mean of bases.
    """
    return not (config.lora_rank or config.strategy.random_weights or config.contrastive)


class WeightAverage:
    """The sum of the weights of fits, each with a head of its own: heads are added as they are on raw features."""

    def __init__(self) -> None:
        self._sum: dict[str, Tensor] = {}
        self.fits = 0

    def add(self, network: Network) -> None:
        """Add the weights that a network has now."""
        for name, value in _raw(network).items():
            self._sum[name] = self._sum[name].add_(value) if name in self._sum else value.clone()
        self.fits += 1

    def include(self, network: Network) -> None:
        """Give a network the mean of its own weights and of all that were added."""
        own = _raw(network)
        mean = {name: (self._sum[name] + value) / (self.fits + 1) for name, value in own.items()}
        mean["head_weight"], mean["head_bias"] = network.standardised_head(mean["head_weight"], mean["head_bias"])
        for name, value in network.masters.items():
            value.copy_(mean[name])
        network.take_masters()


def _raw(network: Network) -> dict[str, Tensor]:
    """Return what trains, in fp32, and the head as it is on features that are not standardised."""
    weight_KF, bias_K = network.raw_head()
    return {**network.masters, "head_weight": weight_KF, "head_bias": bias_K}
