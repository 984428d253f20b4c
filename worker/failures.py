"""Failures in the words that a customer may read. What else there is to know goes to the log and stays in the house."""

from __future__ import annotations

import dataclasses
import errno
import signal
import sys
from typing import Any

import structlog

from models.errors import GraftError, InvalidRequest, Unavailable
from worker.errors import DatasetCorrupt, DeviceOutOfMemory, DiskFull, OutOfMemory, StorageFailed, TrainingCrashed
from worker.protocol import Failed

log = structlog.get_logger(__name__)


def of_training(error: Exception) -> Failed:
    """What a training raised: a domain error's own words, nothing of any other. Called in the trainer process."""
    if isinstance(error, GraftError):
        return _failed(error)
    if _is_device_out_of_memory(error):
        return _failed(DeviceOutOfMemory(), fatal=True)
    if isinstance(error, MemoryError):
        return _failed(OutOfMemory(), fatal=True)
    if is_disk_full(error):
        return _failed(DiskFull())
    return _failed(TrainingCrashed(), fatal=True)


def of_machinery(error: Exception | None) -> Failed:
    """What went wrong around a training, in the worker's own work: never the customer's fault."""
    log.error("machinery_failed", exc_info=error)
    if is_disk_full(error):
        return server_fault(DiskFull())
    if error is None or isinstance(error, Unavailable):
        return server_fault(StorageFailed())
    if isinstance(error, DatasetCorrupt):
        return server_fault(error)
    # The code tells support where to look; the words of other rooms name keys and paths.
    code = error.code if isinstance(error, GraftError) else TrainingCrashed().code
    return dataclasses.replace(server_fault(TrainingCrashed()), code=code)


def server_fault(error: GraftError) -> Failed:
    """An error of ours."""
    return Failed(code=error.code, message=str(error), blame="server")


def describe_status(status: int) -> str:
    """How a process ended, in words; `status` as in `subprocess`."""
    if status >= 0:
        return f"exit status {status}"
    if -status == signal.SIGKILL:
        return "SIGKILL, often for lack of memory"
    return signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"


def is_disk_full(error: BaseException | None) -> bool:
    """Whether it came from a disk without space, directly or as the cause of another error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False


def _failed(error: GraftError, *, fatal: bool = False) -> Failed:
    body: dict[str, Any] = error.as_dict()
    return Failed(
        code=body["code"],
        message=body["message"],
        blame="user" if isinstance(error, InvalidRequest) else "server",
        param=body["param"],
        details=body.get("details", []),
        fatal=fatal,
    )


def _is_device_out_of_memory(error: Exception) -> bool:
    torch = sys.modules.get("torch")  # whoever has not imported it cannot have got its errors
    return torch is not None and isinstance(error, torch.OutOfMemoryError)
