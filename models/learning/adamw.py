"""AdamW, fused, as every fit uses it: the course of its rate, a step, and its state by name, so that fits resume."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.backbones.parallel import in_parallel

_MOMENTS = ("exp_avg", "exp_avg_sq")
_PARTS = 2  # of the values, moved side by side: on one thread a step over six blocks took a third of a small batch


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast a value moves at the full rate, and how fast it shrinks."""

    learning_rate: float
    weight_decay: float


def share_of_rate(step: int, total: int, *, warm_up: int) -> float:
    """Return the share of the full rate, above 0 to 1: linear over so many steps, then half a cosine to zero."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, total - warm_up)))


class AdamW:
    """Moves named values in place. On a processor each half is moved by a thread, with the same bits as by one."""

    def __init__(self, values: Mapping[str, Tensor], rates: Mapping[str, Rate], *, threads: int) -> None:
        self._values = dict(values)
        self._threads = threads
        names = list(self._values)
        on_cpu = all(value.device.type == "cpu" for value in self._values.values())
        self._parts = [
            _Part(names, [names.index(name) for name in part], self._values, rates)
            for part in _divide(self._values, _PARTS if on_cpu else 1)
        ]

    def update(self, gradients: Sequence[Sequence[Tensor]], *, share: float, clip: float) -> None:
        """Take a step at this share of the rates, along the sum of the gradients of a batch's shards.

        They are in the order of the values, are added in the order of the shards, and are at most `clip` long.
        """
        squares = in_parallel(lambda part: part.take(gradients), self._parts, threads=self._threads)
        shrink = clip / (math.sqrt(sum(squares)) + 1e-6)
        for _ in in_parallel(lambda part: part.move(share, shrink), self._parts, threads=self._threads):
            pass

    def capture(self) -> dict[str, Tensor]:
        """Return the values and the moments of them by name: no copies."""
        tensors = {f"value.{name}": value.detach() for name, value in self._values.items()}
        for part in self._parts:
            tensors.update(part.moments())
        return tensors

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `capture` returned. The count of steps, too, lies on the device of the values."""
        for name, value in self._values.items():
            value.data.copy_(tensors[f"value.{name}"])
        for part in self._parts:
            part.restore(tensors)


class _Part:
    """Some of the values: `places` among all of them."""

    def __init__(
        self, names: Sequence[str], places: Sequence[int], values: Mapping[str, Tensor], rates: Mapping[str, Rate]
    ) -> None:
        self._places = places
        self._values = {names[place]: values[names[place]] for place in places}
        grouped: dict[Rate, list[Tensor]] = {}
        for name, value in self._values.items():
            grouped.setdefault(rates[name], []).append(value)
        self._rates = list(grouped)
        groups = [{"params": some, "weight_decay": rate.weight_decay} for rate, some in grouped.items()]
        self._optimizer = torch.optim.AdamW(groups, fused=True)

    def take(self, gradients: Sequence[Sequence[Tensor]]) -> float:
        """Add up the shards' gradients of these values; returns the square of their length."""
        summed = [gradients[0][place].float() for place in self._places]
        for others in gradients[1:]:
            torch._foreach_add_(summed, [others[place].float() for place in self._places])
        for value, gradient in zip(self._values.values(), summed, strict=True):
            value.grad = _lay_out(gradient, value)
        norms = torch._foreach_norm(summed)
        return float(torch.stack(norms).square().sum())

    def move(self, share: float, shrink: float) -> None:
        """Take the step along the gradients that were taken, times `shrink` if that is less than 1."""
        if shrink < 1.0:
            torch._foreach_mul_([value.grad for value in self._values.values() if value.grad is not None], shrink)
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = share * rate.learning_rate
        self._optimizer.step()

    def moments(self) -> dict[str, Tensor]:
        """Return what `capture` does, of these values."""
        state = self._optimizer.state
        return {f"{key}.{name}": moment for name, value in self._values.items() for key, moment in state[value].items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put the moments back."""
        for name, value in self._values.items():
            moments = {key: _lay_out(tensors[f"{key}.{name}"].to(value.device), value) for key in _MOMENTS}
            self._optimizer.state[value] = {"step": tensors[f"step.{name}"].to(value.device), **moments}


def _divide(values: Mapping[str, Tensor], count: int) -> list[list[str]]:
    """Return the names in so many parts of like sizes, the largest value first; no part is empty."""
    parts: list[list[str]] = [[] for _ in range(min(count, len(values)))]
    sizes = [0] * len(parts)
    for name in sorted(values, key=lambda name: -values[name].numel()):
        smallest = sizes.index(min(sizes))
        parts[smallest].append(name)
        sizes[smallest] += values[name].numel()
    return parts


def _lay_out(tensor: Tensor, value: Tensor) -> Tensor:
    """Return a tensor of a value's shape that lies in memory as the value does.

    On a CPU the fused kernel reads gradients and moments as if they did, without an error (torch 2.13): those of
    convolutions may lie otherwise, or have been read from a file, and would move other weights than their own.
    """
    return tensor if tensor.stride() == value.stride() else torch.empty_like(value).copy_(tensor)
