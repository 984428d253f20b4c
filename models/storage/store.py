"""The object store's interface. Two implementations: a local directory and S3."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol


class ObjectStore(Protocol):
    """Immutable objects under slash-separated keys. All methods block; call them off the event loop.

    Raises `storage.errors.ObjectMissing` for a key that is not there and `StorageUnavailable` when the store errs.
    """

    def put_file(self, key: str, path: Path) -> None:
        """Store a local file, whole or not at all; checks what arrived (checksum)."""

    def put_bytes(self, key: str, data: bytes) -> None:
        """Store a small object, whole or not at all."""

    def get_file(self, key: str, path: Path) -> None:
        """Fetch to a local file, which appears complete or not at all."""

    def get_bytes(self, key: str) -> bytes:
        """Fetch a small object."""

    def open(self, key: str) -> BinaryIO:
        """Stream an object."""

    def exists(self, key: str) -> bool:
        """Return whether the object is there."""

    def modified_at(self, key: str) -> float:
        """Return the time at which the object was stored, Unix seconds by the store's clock."""

    def list(self, prefix: str) -> Iterator[str]:
        """Return keys below a prefix, in any order."""

    def delete(self, key: str) -> None:
        """Remove an object; no error if it is gone already."""

    def delete_prefix(self, prefix: str) -> int:
        """Remove everything below a prefix, which ends with a slash; return how many objects."""

    def remove_unfinished(self, older_than_s: float) -> int:
        """Remove the remains of uploads whose process was killed; return how many."""
