"""Link functions: from logits to the mean of a distribution, and to the loss of a row. One object per family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class LinkFunction:
    """A family of generalised linear models: `softmax` (one of K), `sigmoid` (any of K) or `identity` (K values)."""

    name: Literal["softmax", "sigmoid", "identity"]
    # C of a head that is good almost everywhere. On standardised rows of length 1 this of softmax was within a point
    # of the best from 10 to 130 rows per class; squared loss, whose curvature is ten times larger, wants a thirtieth.
    default_inverse_penalty: float
    tempered: bool  # whether a temperature changes how sure it is and not what it says

    def mean(self, logits_NK: Tensor) -> Tensor:
        """Probabilities, or the values as they are: (N, K)."""
        if self.name == "identity":
            return logits_NK
        return logits_NK.softmax(-1) if self.name == "softmax" else logits_NK.sigmoid()

    def mean_of(self, logits_NK: NDArray[np.float32]) -> NDArray[np.float32]:
        """`mean` for arrays."""
        probabilities_NK: NDArray[np.float32] = self.mean(torch.from_numpy(logits_NK)).numpy()
        return probabilities_NK

    def losses(self, logits_NK: Tensor, targets: Tensor) -> Tensor:
        """Return the negative log-likelihood of each row, (N,).

        Targets: (N,) classes for softmax, (N, K) 0/1 for sigmoid, (N, K) numbers for identity (of unit variance).
        """
        if self.name == "softmax":
            return functional.cross_entropy(logits_NK, targets, reduction="none")
        if self.name == "sigmoid":
            return functional.binary_cross_entropy_with_logits(logits_NK, targets, reduction="none").sum(-1)
        return 0.5 * (logits_NK - targets).square().sum(-1)

    def value_and_residual(self, logits_NK: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the summed loss and its derivative by the logits, (N, K): mean minus target, in one pass."""
        if self.name == "softmax":
            log_NK = logits_NK.log_softmax(-1)
            loss = -log_NK.gather(1, targets[:, None]).sum(dtype=torch.float64)
            residual_NK = log_NK.exp_()
            residual_NK[torch.arange(len(targets), device=targets.device), targets] -= 1.0
            return loss, residual_NK
        if self.name == "sigmoid":
            loss = functional.binary_cross_entropy_with_logits(logits_NK, targets, reduction="none").sum(
                dtype=torch.float64
            )
            return loss, logits_NK.sigmoid() - targets
        residual_NK = logits_NK - targets
        return 0.5 * residual_NK.square().sum(dtype=torch.float64), residual_NK

    def curvature(self, outputs: int) -> float:
        """A typical second derivative by one logit before anything is learned: p (1 - p); 1 for values."""
        if self.name == "identity":
            return 1.0
        rate = 1.0 / outputs if self.name == "softmax" else 0.1
        return rate * (1.0 - rate)


SOFTMAX = LinkFunction("softmax", default_inverse_penalty=10.0, tempered=True)
SIGMOID = LinkFunction("sigmoid", default_inverse_penalty=10.0, tempered=True)
IDENTITY = LinkFunction("identity", default_inverse_penalty=0.3, tempered=False)
