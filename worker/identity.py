"""Names of workers, and which of them are known to be dead: processes of this machine that have ended.

A lease tells after a while that a worker is gone, wherever it ran. The kernel knows at once, of its own processes: a
name therefore says on which machine, under which number and since when its process runs.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
from functools import cache
from pathlib import Path

_PROC = Path("/proc")
_HOST_CHARS = 60
_GONE = (b"Z", b"X")


def new_name() -> str:
    """Return a name for this process, new with every call."""
    host = socket.gethostname()[:_HOST_CHARS].replace(":", "-")
    pid = os.getpid()
    # The last part is random: a worker that comes back under an old host name and number is another one.
    return f"{host}:{pid}:{_machine()}-{_started_at(pid)}:{secrets.token_hex(6)}"


def is_dead(name: str) -> bool:
    """Return whether the worker of that name is known to have ended. False: it runs, or nobody here can know."""
    _, _, rest = name.partition(":")
    pid, _, rest = rest.partition(":")
    machine, _, started_at = rest.partition(":")[0].partition("-")
    if not pid.isdigit() or not machine or machine != _machine() or started_at in ("", "None"):
        return False
    return str(_started_at(int(pid))) != started_at


@cache
def _machine() -> str:
    """Return what tells apart everything in which a process number means something else; empty if that is unknown.

    The kernel's start and the namespace of process numbers: containers, and machines of one name, do not look into
    each other.
    """
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = os.readlink(_PROC / "self/ns/pid")  # noqa: PTH115 - a kernel's name, no path
    except OSError:
        return ""
    return hashlib.sha256(f"{boot} {namespace}".encode()).hexdigest()[:12]


def _started_at(pid: int) -> int | None:
    """Return when a process began, in the kernel's ticks; None if it has ended."""
    try:
        # The name in parentheses may hold anything, blanks too.
        fields = (_PROC / f"{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return None if fields[0] in _GONE else int(fields[19])
    except (OSError, IndexError, ValueError):
        return None
