"""The state of a fit between two steps, so that a killed attempt resumes there and ends with the same bits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from models.learning.checkpoint_folder import StepCheckpoints


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Steps done, the values and AdamW's moments, the best values so far, and the history of losses."""

    step: int
    tensors: Mapping[str, Tensor]
    history: Mapping[str, Any]  # JSON


class Checkpoints(StepCheckpoints):
    """One fit's folder."""

    def save(self, checkpoint: Checkpoint) -> None:
        """Put it in the place of the last one. A full disk costs the checkpoint, not the fit."""
        self.write(checkpoint.tensors, {"step": checkpoint.step, "history": dict(checkpoint.history)})

    def load(self) -> Checkpoint | None:
        """Return the last checkpoint of this very fit; None if there is none or it is damaged: the fit starts anew."""
        if (found := self.read()) is None:
            return None
        tensors, values = found
        return Checkpoint(int(values["step"]), tensors, values["history"])
