"""What can go wrong around a training run and is not the customer's fault."""

from __future__ import annotations

from models.errors import GraftError


class TrainerDied(GraftError):
    """The trainer process ended by itself: killed by the system, or crashed in native code."""

    message = "The training process died ({how}). It is not your fault."


class TrainerStalled(GraftError):
    """The trainer process reported nothing for too long and was killed."""

    message = "The training process made no progress for {seconds:.0f} s and was stopped. It is not your fault."


class TrainingTimeout(GraftError):
    """One attempt ran longer than the deployment allows."""

    message = "Training took longer than the {seconds:.0f} s that this service allows for one run."


class TrainingCrashed(GraftError):
    """An unexpected exception in the trainer. The traceback is in its log and never leaves the house."""

    message = "Training failed with an internal error. It is not your fault."


class DeviceOutOfMemory(GraftError):
    """The accelerator's memory did not suffice."""

    message = "The training device ran out of memory. It is not your fault."


class OutOfMemory(GraftError):
    """The machine's memory did not suffice."""

    message = "The training machine ran out of memory. It is not your fault."


class DiskFull(GraftError):
    """No space left on the worker's disk."""

    message = "The training machine's disk is full. It is not your fault."


class DatasetCorrupt(GraftError):
    """What the object store delivered is not what was uploaded."""

    message = "The stored data set '{file}' could not be read back intact. It is not your fault."


class StorageFailed(GraftError):
    """The object store or the database could not be reached for too long."""

    message = "The service's storage could not be reached. It is not your fault."
