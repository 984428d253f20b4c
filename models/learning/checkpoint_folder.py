"""A checkpoint on disk, whatever is in it: safetensors and a manifest with their hash, in a folder that is replaced."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from models import disk

_MANIFEST, _STATE = "manifest.json", "state.safetensors"
_SHARE = 0.05  # of the time, at most, that writing may take
_BYTES_PER_S = 500e6  # of a disk, until the first one is written
_log = structlog.get_logger(__name__)


class CheckpointFolder:
    """The last checkpoint of one fit. `fingerprint` says which fit it is: another's is not read."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder = folder
        self._fingerprint = fingerprint

    def write(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> bool:
        """Write it beside the last one, then put it in its place; `values` are JSON-ready.

        Returns whether it was written: a full disk costs the checkpoint, not the fit.
        """
        temporary = self._folder.with_name(f"{self._folder.name}.{os.getpid()}.tmp")
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            state = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
            with disk.writing_tensors():
                save_file(state, temporary / _STATE)
            manifest = {"fingerprint": self._fingerprint, **values, "sha256": _sha256(temporary / _STATE)}
            (temporary / _MANIFEST).write_text(json.dumps(manifest), "utf-8")
            shutil.rmtree(self._folder, ignore_errors=True)
            temporary.replace(self._folder)
        except OSError as error:
            _log.warning("checkpoint_not_written", folder=str(self._folder), error=str(error))
            shutil.rmtree(temporary, ignore_errors=True)
            return False
        return True

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return tensors and values; None if there is no checkpoint of this fit or it is damaged: it starts anew."""
        try:
            manifest = json.loads((self._folder / _MANIFEST).read_text("utf-8"))
            if manifest["fingerprint"] != self._fingerprint:
                return None
            if _sha256(self._folder / _STATE) != manifest["sha256"]:
                _log.warning("checkpoint_corrupt", folder=str(self._folder))
                return None
            return load((self._folder / _STATE).read_bytes()), manifest
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            _log.warning("checkpoint_unreadable", folder=str(self._folder), error=str(error))
            return None


class StepCheckpoints:
    """Checkpoints of a fit that may be written after any step, as often as costs little of the time.

    `fingerprint` says which fit it is: another's state is not resumed. `bytes_` is about what one takes: a large one is
    not written soon after the beginning.
    """

    def __init__(self, folder: Path, fingerprint: Mapping[str, Any], *, every_s: float, bytes_: int = 0) -> None:
        encoded = json.dumps(fingerprint, sort_keys=True, default=str).encode()
        self._folder = CheckpointFolder(folder, hashlib.sha256(encoded).hexdigest())
        self._every_s = every_s
        self._cost_s = bytes_ / _BYTES_PER_S
        self._saved_at = time.monotonic()

    def is_due(self) -> bool:
        """Return whether enough time has passed since the last one."""
        return time.monotonic() - self._saved_at >= max(self._every_s, self._cost_s / _SHARE)

    def write(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Put it in the place of the last one. A full disk costs the checkpoint, not the fit."""
        began = time.monotonic()
        self._folder.write(tensors, values)
        self._saved_at = time.monotonic()
        self._cost_s = self._saved_at - began

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return tensors and values of the last one of this very fit; None if there is none or it is damaged."""
        return self._folder.read()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
