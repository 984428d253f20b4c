"""The state of a fit after an epoch, so that a killed attempt resumes there: safetensors, the manifest last."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from models.learning.adamw import AdamW
from models.learning.checkpoint_folder import CheckpointFolder
from models.learning.finetuning.network import Network
from models.learning.heads.linear import Floats


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Trained parameters, the optimiser's moments, losses and held-out logits of the epochs so far."""

    epoch: int
    tensors: dict[str, Tensor]
    losses: list[float]
    held_logits: list[Floats]

    @classmethod
    def capture(cls, optimizer: AdamW, epoch: int, history: list[tuple[float, Floats]]) -> Checkpoint:
        """Take the masters and their moments; `history` is (loss, held-out logits) of each epoch."""
        return cls(epoch, optimizer.capture(), [loss for loss, _ in history], [logits for _, logits in history])

    def restore(self, network: Network, optimizer: AdamW) -> int:
        """Put everything back; returns how many epochs are done."""
        optimizer.restore(self.tensors)
        network.take_masters()
        return self.epoch

    def history(self) -> Iterator[tuple[float, Floats]]:
        """Yield (loss, held-out logits) of each epoch."""
        return zip(self.losses, self.held_logits, strict=True)


class Checkpoints:
    """The last checkpoint of one fit in a folder of its own. `fingerprint` identifies the fit."""

    def __init__(self, folder: Path, fingerprint: str, *, every_s: float = 10.0) -> None:
        self._folder = CheckpointFolder(folder, fingerprint)
        self._every_s = every_s
        self._saved_at = time.monotonic()

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the last one, unless that is only seconds old. A full disk loses the checkpoint, not the run."""
        if time.monotonic() - self._saved_at < self._every_s:
            return
        logits = {f"held.{index}": torch.from_numpy(array) for index, array in enumerate(checkpoint.held_logits)}
        values = {"epoch": checkpoint.epoch, "losses": checkpoint.losses}
        if self._folder.write({**checkpoint.tensors, **logits}, values):
            self._saved_at = time.monotonic()

    def load(self) -> Checkpoint | None:
        """Return the last checkpoint of this very fit; None if there is none or it is damaged: the fit starts anew."""
        if (found := self._folder.read()) is None:
            return None
        tensors, values = found
        held = [tensors.pop(f"held.{index}").numpy() for index in range(len(values["losses"]))]
        return Checkpoint(values["epoch"], tensors, values["losses"], held)
