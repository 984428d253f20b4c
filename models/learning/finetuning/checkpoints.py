"""The state of a fit after an epoch, so that a killed attempt resumes there: safetensors, the manifest last."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from models import disk
from models.learning.finetuning.network import Network
from models.learning.heads.linear import Floats

_MANIFEST = "manifest.json"
_STATE = "state.safetensors"
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Trained parameters, the optimiser's moments, losses and held-out logits of the epochs so far."""

    epoch: int
    tensors: dict[str, Tensor]
    losses: list[float]
    held_logits: list[Floats]

    @classmethod
    def capture(
        cls, network: Network, optimizer: torch.optim.Optimizer, epoch: int, history: list[tuple[float, Floats]]
    ) -> Checkpoint:
        """Take the state of a network and its AdamW; `history` is (loss, held-out logits) of each epoch."""
        tensors: dict[str, Tensor] = {}
        for name, master in network.masters.items():
            tensors[f"value.{name}"] = master
            tensors.update({f"{key}.{name}": value for key, value in optimizer.state[master].items()})
        return cls(epoch, tensors, [loss for loss, _ in history], [logits for _, logits in history])

    def restore(self, network: Network, optimizer: torch.optim.Optimizer) -> int:
        """Put everything back; returns how many epochs are done."""
        for name, master in network.masters.items():
            master.copy_(self.tensors[f"value.{name}"])
            optimizer.state[master] = {
                key: self.tensors[f"{key}.{name}"].to(master.device) for key in ("step", "exp_avg", "exp_avg_sq")
            }
        network.take_masters()
        return self.epoch

    def history(self) -> Iterator[tuple[float, Floats]]:
        """Yield (loss, held-out logits) of each epoch."""
        return zip(self.losses, self.held_logits, strict=True)


class Checkpoints:
    """The last checkpoint of one fit in a folder of its own. `fingerprint` identifies the fit."""

    def __init__(self, folder: Path, fingerprint: str, *, every_s: float = 10.0) -> None:
        self._folder = folder
        self._fingerprint = fingerprint
        self._every_s = every_s
        self._saved_at = time.monotonic()

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the last one, unless that is only seconds old. A full disk loses the checkpoint, not the run."""
        if time.monotonic() - self._saved_at < self._every_s:
            return
        temporary = self._folder.with_name(f"{self._folder.name}.{os.getpid()}.tmp")
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            logits = {f"held.{index}": torch.from_numpy(array) for index, array in enumerate(checkpoint.held_logits)}
            tensors = {name: tensor.cpu().contiguous() for name, tensor in {**checkpoint.tensors, **logits}.items()}
            with disk.writing_tensors():
                save_file(tensors, temporary / _STATE)
            manifest = {
                "fingerprint": self._fingerprint,
                "epoch": checkpoint.epoch,
                "losses": checkpoint.losses,
                "sha256": _sha256(temporary / _STATE),
            }
            (temporary / _MANIFEST).write_text(json.dumps(manifest), "utf-8")
            shutil.rmtree(self._folder, ignore_errors=True)
            temporary.replace(self._folder)
            self._saved_at = time.monotonic()
        except OSError as error:
            _log.warning("checkpoint_not_written", folder=str(self._folder), error=str(error))
            shutil.rmtree(temporary, ignore_errors=True)

    def load(self) -> Checkpoint | None:
        """Return the last checkpoint of this very fit; None if there is none or it is damaged: the fit starts anew."""
        try:
            manifest = json.loads((self._folder / _MANIFEST).read_text("utf-8"))
            if manifest["fingerprint"] != self._fingerprint:
                return None
            if _sha256(self._folder / _STATE) != manifest["sha256"]:
                _log.warning("checkpoint_corrupt", folder=str(self._folder))
                return None
            tensors = load((self._folder / _STATE).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            _log.warning("checkpoint_unreadable", folder=str(self._folder), error=str(error))
            return None
        held = [tensors.pop(f"held.{index}").numpy() for index in range(len(manifest["losses"]))]
        return Checkpoint(manifest["epoch"], tensors, manifest["losses"], held)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
