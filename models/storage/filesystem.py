"""Objects as files below one folder: whole or not at all, and on the disk before the call returns."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from models.storage.errors import ObjectMissing, StorageUnavailable, refusing_when_full

# Beside the objects, on the same file system, so that a rename is atomic. No key can name it: keys have no leading dot.
_INCOMING = ".incoming"
_COPY_BYTES = 1024 * 1024


class DirectoryStore:
    """An `ObjectStore` in a local folder."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    def put_file(self, key: str, path: Path) -> None:
        """Store a local file, whole or not at all."""
        with path.open("rb") as source:
            self._put(key, source, expected=path.stat().st_size)

    def put_bytes(self, key: str, data: bytes) -> None:
        """Store a small object, whole or not at all."""
        with self._incoming(key) as (target, temporary):
            with temporary.open("xb") as file:
                file.write(data)
                _flush(file)
            _place(temporary, target)

    def get_file(self, key: str, path: Path) -> None:
        """Fetch to a local file, which appears complete or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid4().hex}")
        try:
            with self.open(key) as source, _translated(key), temporary.open("xb") as target:
                shutil.copyfileobj(source, target, _COPY_BYTES)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def get_bytes(self, key: str) -> bytes:
        """Fetch a small object."""
        with self.open(key) as source:
            return source.read()

    def open(self, key: str) -> BinaryIO:
        """Stream an object."""
        with _translated(key):
            return self._path(key).open("rb")

    def exists(self, key: str) -> bool:
        """Return whether the object is there."""
        with _translated(key):
            return self._path(key).is_file()

    def modified_at(self, key: str) -> float:
        """Return the time at which the object was stored, Unix seconds."""
        with _translated(key):
            path = self._path(key)
            if path.is_dir():
                raise IsADirectoryError
            return path.stat().st_mtime

    def list(self, prefix: str) -> Iterator[str]:
        """Return keys below a prefix, in any order."""
        folder = prefix.rpartition("/")[0]
        start = self._path(folder) if folder else self._root
        for parent, folders, names in os.walk(start):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                key = (Path(parent) / name).relative_to(self._root).as_posix()
                if key.startswith(prefix):
                    yield key

    def delete(self, key: str) -> None:
        """Remove an object; no error if it is gone already."""
        path = self._path(key)
        with _translated(key):
            path.unlink(missing_ok=True)
            # Folders are no objects: those that become empty go too.
            with contextlib.suppress(OSError):
                for parent in path.parents:
                    if parent == self._root:
                        break
                    parent.rmdir()

    def delete_prefix(self, prefix: str) -> int:
        """Remove everything below a prefix, which ends with a slash; return how many objects."""
        if not prefix.endswith("/"):
            raise ValueError(f"not a folder: {prefix!r}")
        keys = list(self.list(prefix))
        for key in keys:
            self.delete(key)
        return len(keys)

    def remove_unfinished(self, older_than_s: float) -> int:
        """Remove the remains of uploads whose process was killed; return how many files."""
        removed = 0
        with _translated(None):
            # An upload that is under way has just written: only a file that was not touched for long is a remain.
            for temporary in (self._root / _INCOMING).glob("*"):
                with contextlib.suppress(FileNotFoundError):  # it was finished, or another sweeper was faster
                    if time.time() - temporary.stat().st_mtime > older_than_s:
                        temporary.unlink()
                        removed += 1
        return removed

    def _put(self, key: str, source: BinaryIO, *, expected: int) -> None:
        with self._incoming(key) as (target, temporary):
            with temporary.open("xb") as file:
                shutil.copyfileobj(source, file, _COPY_BYTES)
                _flush(file)
                if file.tell() != expected:
                    raise StorageUnavailable(reason="the file changed while it was stored")
            _place(temporary, target)

    @contextmanager
    def _incoming(self, key: str) -> Iterator[tuple[Path, Path]]:
        target = self._path(key)
        temporary = self._root / _INCOMING / uuid4().hex
        with _translated(None):
            temporary.parent.mkdir(parents=True, exist_ok=True)
            try:
                yield target, temporary
            finally:
                temporary.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        # A key that could leave the folder, or name something that is no object, is a mistake of the program.
        parts = key.split("/")
        if any(part.startswith(".") or part == "" or "\\" in part or "\0" in part for part in parts):
            raise ValueError(f"not a key: {key!r}")
        return self._root.joinpath(*parts)


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _place(temporary: Path, target: Path) -> None:
    # A deletion beside this key may remove the empty folder between these two lines, and its parent while `mkdir`
    # makes them one after the other.
    for _ in range(100):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(target)
            break
        except (FileNotFoundError, FileExistsError):
            if not temporary.exists() or target.parent.is_file():
                raise
    else:
        raise StorageUnavailable(reason="its folder keeps disappearing")
    # The rename itself must survive a power cut too.
    try:
        descriptor = os.open(target.parent, os.O_RDONLY)
    except FileNotFoundError:
        return  # the object was deleted already, and its folder with it
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated(wanted: str | None) -> Iterator[None]:
    """Raise errors of the file system as errors of the store; `wanted`: the key of the object that should be there."""
    try:
        with refusing_when_full():
            yield
    except OSError as error:
        absent = isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError)
        if absent and wanted is not None:
            raise ObjectMissing(key=wanted) from error
        raise StorageUnavailable(reason=error.strerror or "input/output error") from error
