"""The loss of each token that is to be foretold, and its gradient, by a slice of tokens at a time.

A token has as many scores as the vocabulary has entries: those of a row of 8,192 tokens take 1.6 GB, and as much again
for their gradients. A loss depends on nothing but its own token's hidden state, and the output layer never trains: so
its gradient is computed while the scores are there, as if the loss counted one, and multiplied in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from models.learning.contract.errors import Stopped

Logits = Callable[[Tensor], Tensor]  # hidden_SD → scores_SV

_SLICE = 256  # tokens: 50 MB of scores in fp32 where the vocabulary has 49,152 entries


def compute(
    logits: Logits, hidden_MD: Tensor, targets_M: Tensor, *, stop: Callable[[], bool] = lambda: False
) -> tuple[Tensor, Tensor]:
    """Return each token's negative log-probability, (M,) float32, and whether it is the likeliest, (M,) bool.

    The gradient reaches the hidden states only. Raises Stopped.
    """
    differentiable = torch.is_grad_enabled() and hidden_MD.requires_grad
    losses, first, gradients = [], [], []
    for hidden_SD, targets_S in zip(
        torch.split(hidden_MD.detach(), _SLICE), torch.split(targets_M, _SLICE), strict=True
    ):
        if stop():
            raise Stopped
        with torch.set_grad_enabled(differentiable):
            scores_SV = logits(hidden_SD.requires_grad_(differentiable)).float()
        first.append(scores_SV.detach().argmax(-1) == targets_S)
        log_SV, at_S1 = F.log_softmax(scores_SV.detach(), dim=-1), targets_S[:, None]
        losses.append(-log_SV.gather(1, at_S1)[:, 0])
        if differentiable:  # of a loss by the scores: the probabilities, less one for the target
            by_score_SV = log_SV.exp_().scatter_add_(1, at_S1, log_SV.new_full(at_S1.shape, -1.0))
            gradients.append(torch.autograd.grad(scores_SV, hidden_SD, by_score_SV)[0])
    losses_M, first_M = torch.cat(losses), torch.cat(first)
    if differentiable:
        losses_M = _WithGradient.apply(hidden_MD, losses_M, torch.cat(gradients))  # type: ignore[no-untyped-call]
    return losses_M, first_M


class _WithGradient(torch.autograd.Function):
    """Losses that were computed with their gradients: (M,) of hidden states (M, D)."""

    @staticmethod
    def forward(ctx: Any, hidden_MD: Tensor, losses_M: Tensor, gradient_MD: Tensor) -> Tensor:  # noqa: ARG004
        ctx.save_for_backward(gradient_MD)
        return losses_M.clone()

    @staticmethod
    def backward(ctx: Any, *counts: Tensor) -> tuple[Tensor, None, None]:
        (gradient_MD,) = ctx.saved_tensors
        (counts_M,) = counts  # how much each loss counts
        return (gradient_MD * counts_M[:, None]).to(gradient_MD.dtype), None, None
