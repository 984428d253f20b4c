"""A child process that does not outlive its parent, even when the parent is killed with SIGKILL."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when the thread that started it ends; exit if that has happened already.

    Linux only. Elsewhere the end of standard input has to do, and it is watched on Linux too.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The parent may have died between fork and prctl.
    if os.getppid() != parent:
        os._exit(1)


def end_group() -> None:
    """Kill this process and everything in its group, now."""
    os.killpg(0, signal.SIGKILL)
