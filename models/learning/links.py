"""From logits to what is predicted: the loss of a row, and the mean of its distribution. One object per family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Link:
    """A family of generalised linear models: `softmax` (one of K) or `sigmoid` (any of K)."""

    name: Literal["softmax", "sigmoid"]

    def mean(self, logits_NK: Tensor) -> Tensor:
        """Probabilities, (N, K)."""
        return logits_NK.softmax(-1) if self.name == "softmax" else logits_NK.sigmoid()

    def mean_of(self, logits_NK: NDArray[np.float32]) -> NDArray[np.float32]:
        """`mean` for arrays."""
        probabilities_NK: NDArray[np.float32] = self.mean(torch.from_numpy(logits_NK)).numpy()
        return probabilities_NK

    def losses(self, logits_NK: Tensor, targets: Tensor) -> Tensor:
        """The negative log-likelihood of each row, (N,). Targets: (N,) classes for softmax, (N, K) 0/1 for sigmoid."""
        if self.name == "softmax":
            return functional.cross_entropy(logits_NK, targets, reduction="none")
        return functional.binary_cross_entropy_with_logits(logits_NK, targets, reduction="none").sum(-1)

    def value_and_residual(self, logits_NK: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The summed loss and its derivative by the logits, (N, K): mean minus target, in one pass."""
        if self.name == "softmax":
            log_NK = logits_NK.log_softmax(-1)
            loss = -log_NK.gather(1, targets[:, None]).sum(dtype=torch.float64)
            residual_NK = log_NK.exp_()
            residual_NK[torch.arange(len(targets), device=targets.device), targets] -= 1.0
            return loss, residual_NK
        loss = functional.binary_cross_entropy_with_logits(logits_NK, targets, reduction="none").sum(
            dtype=torch.float64
        )
        return loss, logits_NK.sigmoid() - targets

    def curvature(self, outputs: int) -> float:
        """A typical second derivative by one logit before anything is learned: p (1 - p)."""
        rate = 1.0 / outputs if self.name == "softmax" else 0.1
        return rate * (1.0 - rate)


SOFTMAX = Link("softmax")
SIGMOID = Link("sigmoid")
