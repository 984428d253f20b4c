"""The state of a fit between two steps, so that a killed attempt resumes there and ends with the same bits."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from models import disk

_MANIFEST, _STATE = "manifest.json", "state.safetensors"
_SHARE = 0.05  # of the time, at most, that writing may take
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Steps done, the values and AdamW's moments, the best values so far, and the history of losses."""

    step: int
    tensors: Mapping[str, Tensor]
    history: Mapping[str, Any]  # JSON


class Checkpoints:
    """One fit's folder. `fingerprint` says which fit it is: another's state is not resumed."""

    def __init__(self, folder: Path, fingerprint: Mapping[str, Any], *, every_s: float) -> None:
        self._folder = folder
        encoded = json.dumps(fingerprint, sort_keys=True, default=str).encode()
        self._fingerprint = hashlib.sha256(encoded).hexdigest()
        self._every_s = every_s
        self._cost_s = 0.0
        self._saved_at = time.monotonic()

    def is_due(self) -> bool:
        """Return whether enough time has passed since the last one."""
        return time.monotonic() - self._saved_at >= max(self._every_s, self._cost_s / _SHARE)

    def save(self, checkpoint: Checkpoint) -> None:
        """Write it beside the last one, then put it in its place. A full disk costs the checkpoint, not the fit."""
        began = time.monotonic()
        temporary = self._folder.with_name(self._folder.name + ".tmp")
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
            with disk.writing_tensors():
                save_file(tensors, temporary / _STATE)
            manifest = {
                "fingerprint": self._fingerprint,
                "step": checkpoint.step,
                "history": dict(checkpoint.history),
                "sha256": _sha256(temporary / _STATE),
            }
            (temporary / _MANIFEST).write_text(json.dumps(manifest), "utf-8")
            shutil.rmtree(self._folder, ignore_errors=True)
            temporary.replace(self._folder)
        except OSError as error:
            _log.warning("checkpoint_not_written", folder=str(self._folder), error=str(error))
            shutil.rmtree(temporary, ignore_errors=True)
        self._saved_at = time.monotonic()
        self._cost_s = self._saved_at - began

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
            return Checkpoint(int(manifest["step"]), tensors, manifest["history"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            _log.warning("checkpoint_unreadable", folder=str(self._folder), error=str(error))
            return None


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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
