"""A test run that is killed leaves nothing behind: an API that a test had started used to run on for ever."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

_ROOT = Path(__file__).parents[1]
# A run, its child, and a child of that in a session of its own.
_CHILD = """
import subprocess
print(subprocess.Popen(["sleep", "600"], start_new_session=True).pid, flush=True)
input()
"""
_RUN = f"""
import os, subprocess, sys
from subprocess import PIPE
from tests import leftovers
watch = leftovers.watch()
made = subprocess.Popen([sys.executable, "-c", {_CHILD!r}], stdout=PIPE, stdin=PIPE, start_new_session=True)
print(made.pid, made.stdout.readline().decode().strip(), flush=True)
if sys.stdin.readline() == "end\\n":
    watch.end()
os.kill(os.getpid(), 9)
"""


def _ends(pid: int) -> bool:
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("word", ["end", "kill"])
def test_what_a_killed_run_started_is_killed_and_nothing_of_one_that_ended(word: str) -> None:
    run = subprocess.Popen([sys.executable, "-c", _RUN], cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert run.stdout is not None
    assert run.stdin is not None
    pids = [int(pid) for pid in run.stdout.readline().split()]
    assert len(pids) == 2
    run.communicate(f"{word}\n".encode())
    try:
        if word == "kill":
            assert all(map(_ends, pids))
        else:
            assert psutil.pid_exists(pids[1])  # its fixtures would have ended it
    finally:
        for pid in pids:
            if psutil.pid_exists(pid):
                psutil.Process(pid).kill()
