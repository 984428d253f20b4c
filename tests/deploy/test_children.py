"""Child processes: started again when they die, stopped with everything below them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from deploy.local.children import Child

# A child with a grandchild in a process group of its own, as the trainer is.
_WITH_GRANDCHILD = (
    "import subprocess, sys, time, signal\n"
    "grandchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
    "print(grandchild.pid, flush=True)\n"
)


def until(done: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Child]]:
    children: list[Child] = []

    def make(code: str) -> Child:
        child = Child("child", [sys.executable, "-c", code], env=dict(os.environ), log=tmp_path / "child.log")
        child.start()
        children.append(child)
        return child

    yield make
    for child in children:
        child.stop(grace_s=1)


def test_stop_takes_the_whole_tree(start: Callable[[str], Child], tmp_path: Path) -> None:
    child = start(_WITH_GRANDCHILD + "time.sleep(600)")
    until(lambda: (tmp_path / "child.log").read_text().endswith("\n"))
    grandchild = psutil.Process(int((tmp_path / "child.log").read_text()))
    child.stop(grace_s=5)
    assert child.pid is None
    assert not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE


def test_a_child_that_does_not_listen_is_killed(start: Callable[[str], Child], tmp_path: Path) -> None:
    child = start(
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(600)"
    )
    until(lambda: "on" in (tmp_path / "child.log").read_text())
    process = psutil.Process(child.pid)
    child.stop(grace_s=0.1)
    assert not process.is_running()


def test_a_dead_child_is_started_again_after_a_pause(start: Callable[[str], Child]) -> None:
    child = start("import time; time.sleep(600)")
    first = child.pid
    assert first is not None
    psutil.Process(first).kill()
    until(lambda: child.status is not None)
    news = child.supervise()
    assert news is not None
    assert "starting it again in 0.5 s" in news

    def again() -> bool:
        child.supervise()
        return child.pid is not None

    until(again)
    assert child.pid != first
    assert child.restarts == 1


def test_pauses_grow(start: Callable[[str], Child]) -> None:
    child = start("raise SystemExit(3)")
    pauses = []
    while len(pauses) < 3:
        news = child.supervise()
        if news:
            assert "status 3" in news
            pauses.append(news.split(" s (")[0].rsplit(" ", 1)[1])
        time.sleep(0.01)
    assert pauses == ["0.5", "1", "2"]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("2026-01-01T00:00:00Z [error    ] run_failed [worker]", True),
        ('{"level": "error", "event": "x"}', True),
        ("CRITICAL: no database", True),
        ("sqlalchemy.exc.OperationalError: (sqlite3)", True),
        ("2026-01-01T00:00:00Z [info     ] ready [uvicorn.error]", False),
        ('{"level": "info", "error": null}', False),
    ],
)
def test_errors_in_the_log_are_shown(start: Callable[[str], Child], line: str, shown: bool) -> None:
    child = start(f"print({line!r})")
    until(lambda: child.status is not None)
    assert child.trouble() == ([line] if shown else [])
    assert child.trouble() == []
