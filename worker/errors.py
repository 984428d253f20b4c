"""Errors around a training run, and how any exception becomes the `JobError` that a customer may read.

The rest of what is known about a failure goes to the log and leaves the service by no other way.
"""

from __future__ import annotations

import dataclasses
import signal
import sys

import structlog

from models import disk
from models.errors import GraftError, JobError, Unavailable

log = structlog.get_logger(__name__)


class TrainerDied(GraftError):
    """The trainer process ended by itself: killed by the system, or crashed in native code."""

    message = "The training process died ({how}). It is not your fault."


class TrainerStalled(GraftError):
    """The trainer process reported nothing for too long and was killed."""

    message = "The training process made no progress for {seconds:.0f} s and was stopped. It is not your fault."


class TrainingTimeout(GraftError):
    """An attempt that ran longer than the deployment allows."""

    message = "Training took longer than the {seconds:.0f} s that this service allows for one run."


class TrainingCrashed(GraftError):
    """An unexpected exception in the trainer. The traceback is in its log and never leaves the service."""

    message = "Training failed with an internal error. It is not your fault."


class DeviceOutOfMemory(GraftError):
    """The accelerator's memory did not suffice."""

    message = "The training device ran out of memory. It is not your fault."


class OutOfMemory(GraftError):
    """The machine's memory did not suffice."""

    message = "The training machine ran out of memory. It is not your fault."


class DiskFull(GraftError):
    """A worker's disk without space left."""

    message = "The training machine's disk is full. It is not your fault."


class DatasetCorrupt(GraftError):
    """The object store delivered something else than was uploaded."""

    message = "The stored data set '{file}' could not be read back intact. It is not your fault."


class StorageFailed(GraftError):
    """The object store or the database could not be reached for too long."""

    message = "The service's storage could not be reached. It is not your fault."


def from_training(error: Exception) -> tuple[JobError, bool]:
    """Describe what a training raised, and whether the trainer process must end. Called in the trainer process.

    A domain error keeps its own words, nothing of any other is shown.
    """
    if isinstance(error, GraftError):
        return JobError.of(error), False
    if _is_device_out_of_memory(error):
        return JobError.of(DeviceOutOfMemory()), True
    if isinstance(error, MemoryError):
        return JobError.of(OutOfMemory()), True
    if disk.is_full(error):
        return JobError.of(DiskFull()), False
    return JobError.of(TrainingCrashed()), True


def from_background(error: Exception | None) -> JobError:
    """Describe what failed in the worker's own work around a training: never the customer's fault."""
    log.error("background_task_failed", exc_info=error)
    if disk.is_full(error):
        return server_error(DiskFull())
    if error is None or isinstance(error, Unavailable):
        return server_error(StorageFailed())
    if isinstance(error, DatasetCorrupt):
        return server_error(error)
    # The code shows where to look; the messages of other packages name keys and paths.
    code = error.code if isinstance(error, GraftError) else TrainingCrashed().code
    return dataclasses.replace(server_error(TrainingCrashed()), code=code)


def server_error(error: GraftError) -> JobError:
    """Describe an error as the server's fault: its message, no parameter and no details."""
    return JobError(error.code, str(error), "server")


def describe_exit(status: int) -> str:
    """Say in words how a process ended; `status` as in `subprocess`."""
    if status >= 0:
        return f"exit status {status}"
    if -status == signal.SIGKILL:
        return "SIGKILL, often for lack of memory"
    return signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"


def _is_device_out_of_memory(error: Exception) -> bool:
    torch = sys.modules.get("torch")  # a process that has not imported it cannot have got its errors
    return torch is not None and isinstance(error, torch.OutOfMemoryError)
