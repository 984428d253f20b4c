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


def test_a_dead_child_is_started_again_at_once_and_after_a_pause_if_it_dies_young(
    start: Callable[[str], Child],
) -> None:
    child = start("import time; time.sleep(600)")
    seen = set()
    for number, said in enumerate(["starting it again (", "starting it again in 0.5 s", "starting it again in 1 s"]):
        assert child.pid is not None
        seen.add(child.pid)
        psutil.Process(child.pid).kill()
        until(lambda: child.status is not None)
        news = child.supervise()
        assert news is not None
        assert said in news

        def again() -> bool:
            child.supervise()
            return child.pid is not None

        until(again)
        assert child.restarts == number + 1
    assert len(seen | {child.pid}) == 4


def test_a_second_process_waits_and_takes_over_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.local.children._SPARE_AFTER_S", 0.0)
    log = tmp_path / "child.log"
    code = "import os, sys; line = sys.stdin.readline() or sys.exit(0); print(os.getpid(), line, end='', flush=True);"
    command = [sys.executable, "-c", f"{code} sys.stdin.read() or __import__('time').sleep(600)"]
    child = Child("child", command, env=dict(os.environ), log=log, told=b"the key\n", standby=True)
    child.start()
    try:
        child.supervise()
        first, spare = child.pids
        assert child.pid == first
        until(lambda: log.read_text() == f"{first} the key\n")  # the other one waits, and nobody told it anything
        psutil.Process(first).kill()
        until(lambda: child.status is not None)
        child.supervise()
        child.supervise()
        assert child.pid == spare
        until(lambda: log.read_text() == f"{first} the key\n{spare} the key\n")
        child.supervise()
        third = child.pids[1]
        psutil.Process(third).kill()
        until(lambda: child.pids == [spare])
        child.supervise()
        assert third not in child.pids
        assert len(child.pids) == 2
        family = [psutil.Process(pid) for pid in child.pids]
    finally:
        child.stop(grace_s=1)
    assert not any(process.is_running() for process in family)


def test_no_full_disk_and_no_missing_program_ends_the_one_that_supervises(tmp_path: Path) -> None:
    """Without a log its lines are lost; what cannot be started is tried again later."""
    log = tmp_path / "gone" / "child.log"
    child = Child("child", [str(tmp_path / "program")], env=dict(os.environ), log=log)
    with pytest.raises(FileNotFoundError):
        child.start()
    (tmp_path / "program").write_text('#!/bin/sh\n: > "$0.runs"\nexec sleep 600\n')
    (tmp_path / "program").chmod(0o700)
    child.start()
    assert child.tail() == ""
    until((tmp_path / "program.runs").exists)  # before, it could be removed before the shell had opened it
    (tmp_path / "program").unlink()
    assert child.pid is not None
    psutil.Process(child.pid).kill()
    until(lambda: child.status is not None)
    news: list[str] = []

    def refused() -> bool:
        news.extend(filter(None, [child.supervise()]))
        return len(news) == 2

    until(refused)
    assert "cannot be started (No such file or directory); starting it again in 0.5 s" in news[1]


def test_the_end_of_the_log_is_that_of_this_start(start: Callable[[str], Child], tmp_path: Path) -> None:
    (tmp_path / "child.log").write_text("Application shutdown complete.\n")  # an earlier launcher's
    child = start("raise SystemExit('no key')")
    until(lambda: child.status is not None)
    assert child.tail() == "no key"


def test_pauses_grow(start: Callable[[str], Child]) -> None:
    child = start("raise SystemExit(3)")
    pauses = []
    while len(pauses) < 3:
        news = child.supervise()
        if news:
            assert "status 3" in news
            pauses.append(news.split("; ")[1].split(" (")[0].removeprefix("starting it again"))
        time.sleep(0.01)
    assert pauses == ["", " in 0.5 s", " in 1 s"]


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
