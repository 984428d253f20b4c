"""The data folder of a one-machine deployment: its lock, the operator's key, and what an earlier run left behind."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import psutil

from deploy.local.errors import AdminKeyTooShort, DataFolderInUse, DataFolderUnusable
from models.settings import ADMIN_KEY_CHARS

# What nobody but Graft puts into a folder. The last one is of `graft base-models add`.
_MARKS = ("run", "graft.db", ".base-models.json.lock")
# Made at the start, closed to others: whoever makes them later, with their first file, leaves them open.
_PARTS = ("run", "logs", "objects", "cache")


class DataFolder:
    """A folder that one whole deployment, or several that each run one role, may use at a time.

    The locks are `flock`s: the kernel drops them when the launcher ends, however it ends, so there are no stale ones.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.run = self.path / "run"
        self.logs = self.path / "logs"
        self._locks: list[IO[str]] = []

    def create(self) -> None:
        """Make the folder and its parts, for their owner only; raises DataFolderUnusable.

        A folder that others could look into, and that has what only Graft makes (an earlier release did, or a backup
        was put back), is closed. One that was there before Graft keeps its mode: it may be somebody's own.
        """
        try:
            ours = not self.path.exists() or any((self.path / name).exists() for name in _MARKS)
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if ours:
                self.path.chmod(0o700)
            for part in _PARTS:
                (self.path / part).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise DataFolderUnusable(folder=self.path, reason=error.strerror or error) from error

    def lock(self, name: str, *, shared: bool, holder: str) -> None:
        """Hold the lock `name` until `release`; raises DataFolderInUse with the other holder's text."""
        try:
            file = (self.run / f"{name}.lock").open("a+", encoding="utf-8")
        except OSError as error:
            raise DataFolderUnusable(folder=self.path, reason=error.strerror or error) from error
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            other = file.read().strip() or "an unknown process"
            file.close()
            raise DataFolderInUse(folder=self.path, holder=other) from None
        file.truncate(0)
        file.write(f"process {os.getpid()}, {holder}")
        file.flush()
        self._locks.append(file)

    def release(self) -> None:
        """Release every lock that is held."""
        while self._locks:
            self._locks.pop().close()

    def admin_key(self) -> str:
        """Return the operator's key of this folder: read, or made once and readable by its owner only.

        Raises AdminKeyTooShort, DataFolderUnusable.
        """
        path = self.path / "admin.key"
        try:
            if not path.exists():
                _make_admin_key(path)
            key = path.read_text(encoding="utf-8", errors="replace").strip()
        except OSError as error:
            raise DataFolderUnusable(folder=self.path, reason=error.strerror or error) from error
        if len(key) < ADMIN_KEY_CHARS:
            raise AdminKeyTooShort(path=path, chars=len(key), least=ADMIN_KEY_CHARS)
        return key

    def remember(self, pids: Iterable[int]) -> None:
        """Note this launcher's processes, for `stop_leftovers` after it was killed."""
        noted = []
        for pid in pids:
            try:
                noted.append({"pid": pid, "created": psutil.Process(pid).create_time()})
            except psutil.NoSuchProcess:
                continue
        path = self._note(os.getpid())
        if not path.exists():
            self.lock(path.stem, shared=False, holder="launcher")
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(noted), encoding="utf-8")
        temporary.replace(path)

    def forget(self) -> None:
        """Remove the note: everything has been stopped."""
        path = self._note(os.getpid())
        path.unlink(missing_ok=True)
        path.with_suffix(".lock").unlink(missing_ok=True)

    def stop_leftovers(self) -> int:
        """Kill the processes of earlier launchers that died without stopping them; return how many.

        A note is left over when its lock is free. A process counts as ours only if its start time matches too:
        numbers are used again.
        """
        found: list[psutil.Process] = []
        for path in self.run.glob("launcher-*.json"):
            lock = path.with_suffix(".lock")
            with lock.open("a", encoding="utf-8") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                found += _noted(path)
                path.unlink(missing_ok=True)
                lock.unlink(missing_ok=True)
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(found, timeout=5)
        return len(found)

    def _note(self, pid: int) -> Path:
        return self.run / f"launcher-{pid}.json"


def is_data_folder(path: Path) -> bool:
    """Return whether a process of Graft has used the folder."""
    return any((path / name).exists() for name in ("run", "graft.db", "cache"))


def _make_admin_key(path: Path) -> None:
    """Make the file whole or not at all; one that another start has made meanwhile stays."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # for its owner only
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f"gr-admin-{secrets.token_urlsafe(32)}\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # a link replaces nothing: two starts at once agree on one key
            os.link(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def _noted(path: Path) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    for entry in entries:
        with contextlib.suppress(psutil.NoSuchProcess, KeyError, TypeError):
            process = psutil.Process(entry["pid"])
            if abs(process.create_time() - entry["created"]) < 0.01:
                found += [*process.children(recursive=True), process]
    return found
