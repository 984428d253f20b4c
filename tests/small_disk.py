"""A disk of a few megabytes: a tmpfs in a mount namespace that only a process and its children see.

It needs Linux, and root or user namespaces for everybody. Nothing stays mounted: it is gone with the last process.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

_MOUNT = 'mount -t tmpfs -o size="$0",mode=700 tmpfs "$1" && shift && exec "$@"'


def missing() -> str:
    """Return why there can be none here; empty if there can."""
    if shutil.which("unshare") is None:
        return "no `unshare` here, and a small disk needs Linux' mount namespaces"
    tried = subprocess.run([*namespace(), "true"], capture_output=True, text=True, check=False)
    return f"no mount namespace for this user: {tried.stderr.strip()}" if tried.returncode else ""


def namespace() -> list[str]:
    """Return the words before a command that may mount what nobody else sees."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-current-user", "--keep-caps"]
    return ["unshare", *user, "--mount", "--propagation", "private"]


def command(folder: Path, size: str, words: list[str]) -> list[str]:
    """Return the command that runs `words` with a disk of `size` (as `16m`) at `folder`, which must exist."""
    return [*namespace(), "sh", "-c", _MOUNT, size, str(folder), *words]


def mount(folder: Path, size: str) -> None:
    """Mount one, in a process that runs in a namespace of its own."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(folder)], check=True)


class Ballast:
    """What fills a disk: a file that takes all room there is."""

    def __init__(self, folder: Path, pid: int | None = None) -> None:
        """`pid`: the process that sees the disk at that folder; None: this one does."""
        self._file = (Path(f"/proc/{pid}/root{folder}") if pid else folder) / "ballast"

    def fill(self) -> None:
        """Take all room, and what has become free since the last call."""
        with self._file.open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                block = b"\0" * size
                try:
                    while file.write(block) == size:
                        pass
                except OSError:  # no space for a block of this size
                    continue

    def remove(self) -> None:
        """Give all of it back."""
        self._file.unlink(missing_ok=True)
