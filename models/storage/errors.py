"""Errors of the object store."""

from __future__ import annotations

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
