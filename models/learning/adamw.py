"""AdamW, fused, as every fit uses it: the course of its rate, a step, and its state by name, so that fits resume."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

_MOMENTS = ("exp_avg", "exp_avg_sq")


def share_of_rate(step: int, total: int, *, warm_up: int) -> float:
    """Return the share of the full rate, above 0 to 1: linear over so many steps, then half a cosine to zero."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, total - warm_up)))


def update(
    optimizer: torch.optim.Optimizer, values: Sequence[Tensor], gradients: Sequence[Sequence[Tensor]], *, clip: float
) -> None:
    """Take a step along the sum of the gradients of a batch's shards, added in their order and at most `clip` long."""
    summed = [gradient.float() for gradient in gradients[0]]
    for others in gradients[1:]:
        torch._foreach_add_(summed, [gradient.float() for gradient in others])
    for value, gradient in zip(values, summed, strict=True):
        value.grad = _lay_out(gradient, value)
    torch.nn.utils.clip_grad_norm_(values, clip)
    optimizer.step()


def capture(values: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the values that train and the optimiser's moments of them by name: no copies."""
    tensors: dict[str, Tensor] = {}
    for name, value in values.items():
        tensors[f"value.{name}"] = value.detach()
        tensors.update({f"{key}.{name}": moment for key, moment in optimizer.state[value].items()})
    return tensors


def restore(values: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `capture` took. A fused optimiser counts its steps on the device of the values."""
    for name, value in values.items():
        value.data.copy_(tensors[f"value.{name}"])
        moments = {key: _lay_out(tensors[f"{key}.{name}"].to(value.device), value) for key in _MOMENTS}
        optimizer.state[value] = {"step": tensors[f"step.{name}"].to(value.device), **moments}


def _lay_out(tensor: Tensor, value: Tensor) -> Tensor:
    """Return a tensor of a value's shape that lies in memory as the value does.

    On a CPU the fused kernel reads gradients and moments as if they did, without an error (torch 2.13): those of
    convolutions may lie otherwise, or have been read from a file, and would move other weights than their own.
    """
    return tensor if tensor.stride() == value.stride() else torch.empty_like(value).copy_(tensor)
