"""The state of a fit between two steps, so that a killed attempt resumes there and ends with the same bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.learning.adamw import AdamW
from models.learning.checkpoint_folder import StepCheckpoints

Losses = Sequence[tuple[float, float, float]]  # scores, boxes, learning rate, by step


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Weights that train, their running average, and AdamW's moments."""

    values: Mapping[str, Tensor]
    averaged: Mapping[str, Tensor]
    optimizer: AdamW

    def average(self, kept: float) -> None:
        """Move the average towards the weights; `kept` of it stays."""
        with torch.no_grad():
            torch._foreach_lerp_([self.averaged[name] for name in self.values], list(self.values.values()), 1.0 - kept)

    def tensors(self) -> dict[str, Tensor]:
        """Return all of it by name."""
        averages = {f"average.{name}": self.averaged[name] for name in self.values}
        return {**self.optimizer.capture(), **averages}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        self.optimizer.restore(tensors)
        for name in self.values:
            self.averaged[name].copy_(tensors[f"average.{name}"])


class Checkpoints(StepCheckpoints):
    """One fit's folder."""

    def save(self, state: TrainingState, losses: Losses, seconds: float) -> None:
        """Put it in the place of the last one; `seconds`: what the steps took. A full disk costs it, not the fit."""
        self.write(state.tensors(), {"losses": [list(each) for each in losses], "seconds": seconds})

    def load(self, state: TrainingState, *, beyond: int) -> tuple[Losses, float]:
        """Restore the last checkpoint of this very fit, if it has more steps than `beyond`; return losses and seconds.

        ((), 0) if there is none or it is damaged: the fit goes on from where it is.
        """
        if (found := self.read()) is None:
            return (), 0.0
        tensors, values = found
        if len(values["losses"]) <= beyond:
            return (), 0.0
        state.restore(tensors)
        losses = tuple((float(one), float(two), float(three)) for one, two, three in values["losses"])
        return losses, float(values.get("seconds", 0.0))  # 0: an earlier release wrote it
