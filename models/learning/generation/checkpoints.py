"""The state of a fit between two steps, so that a killed attempt resumes there and ends with the same bits."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.learning.checkpoint_folder import CheckpointFolder

_SHARE = 0.05  # of the time, at most, that writing may take


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Steps done, the values and AdamW's moments, the best values so far, and the history of losses."""

    step: int
    tensors: Mapping[str, Tensor]
    history: Mapping[str, Any]  # JSON


class Checkpoints:
    """One fit's folder. `fingerprint` says which fit it is: another's state is not resumed."""

    def __init__(self, folder: Path, fingerprint: Mapping[str, Any], *, every_s: float) -> None:
        encoded = json.dumps(fingerprint, sort_keys=True, default=str).encode()
        self._folder = CheckpointFolder(folder, hashlib.sha256(encoded).hexdigest())
        self._every_s = every_s
        self._cost_s = 0.0
        self._saved_at = time.monotonic()

    def is_due(self) -> bool:
        """Return whether enough time has passed since the last one."""
        return time.monotonic() - self._saved_at >= max(self._every_s, self._cost_s / _SHARE)

    def save(self, checkpoint: Checkpoint) -> None:
        """Put it in the place of the last one. A full disk costs the checkpoint, not the fit."""
        began = time.monotonic()
        self._folder.write(checkpoint.tensors, {"step": checkpoint.step, "history": dict(checkpoint.history)})
        self._saved_at = time.monotonic()
        self._cost_s = self._saved_at - began

    def load(self) -> Checkpoint | None:
        """Return the last checkpoint of this very fit; None if there is none or it is damaged: the fit starts anew."""
        if (found := self._folder.read()) is None:
            return None
        tensors, values = found
        return Checkpoint(int(values["step"]), tensors, values["history"])


def capture(values: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return copies of values and moments by name."""
    tensors: dict[str, Tensor] = {}
    for name, value in values.items():
        tensors[f"value.{name}"] = value.detach()
        tensors.update({f"{key}.{name}": moment for key, moment in optimizer.state[value].items()})
    return tensors


def restore(values: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `capture` took."""
    for name, value in values.items():
        value.data.copy_(tensors[f"value.{name}"])
        optimizer.state[value] = {
            key: tensors[f"{key}.{name}"].to("cpu" if key == "step" else value.device)
            for key in ("step", "exp_avg", "exp_avg_sq")
        }
