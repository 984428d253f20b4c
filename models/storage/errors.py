"""Errors of the object store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from models import disk
from models.errors import GraftError, Unavailable


class ObjectMissing(GraftError):
    """There is no object under this key. Requests name no keys, so this is the server's fault."""

    message = "The object '{key}' is missing from the store."


class ObjectCorrupt(GraftError):
    """An object is not what was stored."""

    message = "The object '{key}' is damaged: {reason}."


class StorageUnavailable(Unavailable):
    """The store errs, is full, or cannot be reached: 503."""

    message = "The object store cannot be used right now: {reason}. Try again."


class DiskFull(StorageUnavailable):
    """There is no room for what was sent: 507. Nothing of it was kept; the same request works when there is room."""

    status = 507
    retry_after_s = 30.0
    message = "The server has no disk space left for this. Nothing was kept; try again later."


@contextmanager
def refusing_when_full() -> Iterator[None]:
    """Raise the file system's errors of a full disk, or of a quota that is used up, as DiskFull."""
    try:
        yield
    except OSError as error:
        if not disk.is_full(error):
            raise
        raise DiskFull() from error
