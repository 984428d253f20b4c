"""`graft up` on a disk that is really full: it never ends, answers 507, goes on predicting, and recovers by itself.

Once on a small disk, which needs Linux and a namespace; once with a limit on the size of files, which needs neither.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests import small_disk
from tests.benchmarks.embedded import Embedded, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_DISK = "32m"
# Larger than what is there when the disk is "full", smaller than what the tests send.
_FILE_BYTES = 300_000
_WORDS = (["refund", "card", "money"], ["parcel", "late", "courier"])  # by label


def _wait_until(condition: Callable[[], Any], what: str, timeout_s: float = 180.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"timed out waiting {what}"
        time.sleep(0.1)
    return value


class Full:
    """A disk that is full while the context lasts, whatever is freed meanwhile."""

    def __init__(self, ballast: small_disk.Ballast) -> None:
        self._ballast = ballast
        self._over = threading.Event()

    def __enter__(self) -> None:
        self._ballast.fill()
        self._thread = threading.Thread(target=self._top_up, daemon=True)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._ballast.remove()

    def _top_up(self) -> None:
        while not self._over.wait(0.05):
            self._ballast.fill()


class Limited:
    """No file of any process may grow beyond a size, of those that start meanwhile neither."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def __enter__(self) -> None:
        self._limit(_FILE_BYTES)

    def __exit__(self, *_: object) -> None:
        self._limit(resource.RLIM_INFINITY)

    def _limit(self, size: int) -> None:
        launcher = psutil.Process(self._pid)
        # The launcher first: what it starts from now on has the limit from it.
        for process in [launcher, *launcher.children(recursive=True)]:
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


class Graft:
    """A running Graft and a customer of it."""

    def __init__(self, up: Embedded, data: Path, make_full: Callable[[], Any]) -> None:
        self.up = up
        self.data = data
        self.full = make_full
        self.launcher = psutil.Process(up.pid)
        self.http = up.client(up.new_customer("acme"))

    def upload(self, rows: int, words: int = 5) -> httpx.Response:
        """Send rows whose words tell the label: a head that is no better than a guess would not go live."""
        rng = random.Random(rows)
        table = "text,label\n" + "".join(
            f"{' '.join(rng.choice(_WORDS[n % 2]) for _ in range(words))} {n},label-{n % 2}\n" for n in range(rows)
        )
        files = {"file": ("t.csv", table)}
        return self.http.post("/v1/files", files=files, data={"purpose": "fine-tune"})

    def train(self, file_id: str, suffix: str) -> httpx.Response:
        body = {"training_file": file_id, "suffix": suffix, "model": "minilm", "strategy": "head"}
        return self.http.post("/v1/fine_tuning/jobs", json=body)

    def wait(self, job_id: str) -> dict[str, Any]:
        def ended() -> dict[str, Any] | None:
            with contextlib.suppress(httpx.TransportError):
                answer = self.http.get(f"/v1/fine_tuning/jobs/{job_id}")
                if answer.is_success and answer.json()["status"] in ("succeeded", "failed"):
                    return dict(answer.json())
            return None

        return dict(_wait_until(ended, "for a job"))

    def predicts(self, model: str) -> bool:
        with contextlib.suppress(httpx.TransportError):
            answer = self.http.post(f"/v1/models/{model}/predict", json={"inputs": ["my card"]})
            return answer.is_success
        return False

    def is_ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.up.url}/readyz", timeout=5, trust_env=False).is_success
        return False

    def kill(self, words: str) -> None:
        """Kill the oldest child with these words in its command, and wait until another one runs."""

        def found() -> list[psutil.Process]:
            processes = []
            for child in self.launcher.children():
                with contextlib.suppress(psutil.Error):
                    if words in " ".join(child.cmdline()):
                        processes.append(child)
            return sorted(processes, key=lambda process: process.pid)

        victim = found()[0]
        victim.kill()
        _wait_until(lambda: {p.pid for p in found()} - {victim.pid}, f"for {words} to be started again")


@pytest.fixture(params=["small disk", "small files"])
def graft(request: pytest.FixtureRequest) -> Iterator[Graft]:
    on_small_disk = request.param == "small disk"
    if on_small_disk and (absent := small_disk.missing()):
        pytest.skip(absent)
    if not on_small_disk and not hasattr(resource, "prlimit"):
        pytest.skip("only Linux limits the files of another process")
    # A short path: a unix socket's has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="graft-", dir="/tmp"))
    (folder / "data").mkdir()

    def within(command: list[str]) -> list[str]:
        return small_disk.command(folder / "data", _DISK, command) if on_small_disk else command

    settings = {"GRAFT_THREADS": "1", "GRAFT_TRAINER_NICENESS": "0", "GRAFT_DATABASE_URL": ""}
    try:
        with running(folder, within=within, **settings) as up:
            ballast = small_disk.Ballast(folder / "data", up.pid)
            data = Path(f"/proc/{up.pid}/root{folder}/data")
            graft = Graft(up, data, (lambda: Full(ballast)) if on_small_disk else (lambda: Limited(up.pid)))
            try:
                yield graft
            finally:
                for log in [folder / "launcher.log", *sorted((data / "logs").glob("*.log"))]:
                    with contextlib.suppress(OSError):
                        sys.stdout.write(f"----- {log.name}\n{log.read_text(errors='replace')[-3000:]}\n")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_full_disk_ends_nothing_and_everything_comes_back_by_itself(graft: Graft) -> None:
    small = graft.upload(40).raise_for_status().json()["id"]
    assert graft.wait(graft.train(small, "before").raise_for_status().json()["id"])["status"] == "succeeded"
    asked: list[bool] = []
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.2):
            asked.append(graft.predicts("before"))

    with graft.full():
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        refused = graft.upload(3_000, words=40)
        assert refused.status_code == 507, refused.text
        assert refused.json()["error"]["code"] == "disk_full"
        # There may be room for a row; of a file that may not grow the database says no more than that it failed.
        job = graft.train(small, "during")
        assert job.status_code in (200, 503, 507), job.text
        _wait_until(lambda: len(asked) >= 10, "for predictions")
        over.set()
        asking.join()
        assert all(asked)
        # Processes that die now come back, as far as that needs no room; an adapter need not be kept to be used.
        shutil.rmtree(graft.data / "cache" / "adapters")
        for words in ("worker.app", "valkey-server", "api.server"):
            graft.kill(words)
        _wait_until(lambda: graft.predicts("before"), "for predictions of an API that started on a full disk")
        assert graft.launcher.is_running()
        assert graft.launcher.status() != psutil.STATUS_ZOMBIE
    _wait_until(graft.is_ready, "for /readyz")
    if job.status_code == 200:
        assert graft.wait(job.json()["id"])["status"] == "succeeded"
    again = _wait_until(lambda: (answer := graft.upload(3_000, words=40)).is_success and answer, "for an upload")
    after = _wait_until(lambda: (answer := graft.train(small, "after")).is_success and answer, "for a job")
    assert again.json()["bytes"] > _FILE_BYTES
    assert graft.wait(after.json()["id"])["status"] == "succeeded"
    _wait_until(lambda: graft.predicts("after"), "for predictions of the new model")
    assert os.path.exists(f"/proc/{graft.up.pid}")  # noqa: PTH110
