"""Real processes, really killed."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from models.datasets.errors import InvalidDataset
from models.datasets.examples import DatasetProfile
from models.datasets.limits import Limits
from models.datasets.validation import inspect
from models.services.validation.cancellation import Cancellation
from models.services.validation.errors import (
    UnreadableFile,
    ValidationAbandoned,
    ValidationMemory,
    ValidationTimeout,
    ValidationUnavailable,
)
from models.services.validation.messages import Order
from models.services.validation.pool import ValidationPool
from models.storage.errors import DiskFull
from tests.models.datasets.media_files import archive, folders, picture

GOOD = "text,label\n" + "".join(f"question {number},{'card' if number % 2 else 'refund'}\n" for number in range(10))


@pytest.fixture
def order(tmp_path: Path) -> Callable[..., Order]:
    def make(content: str | bytes, *, filename: str = "tickets.csv", seconds: float = 60.0, **changes: Any) -> Order:
        path = tmp_path / "upload"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        values = {"task": None, "columns": None, "role": "training", "limits": Limits(), **changes}
        return Order(path=path, filename=filename, seconds=seconds, **values)

    return make


@pytest.fixture
def pool() -> Iterator[ValidationPool]:
    """A pool of this test's own, of one process."""
    pool = ValidationPool(processes=1)
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def shared_pool() -> Iterator[ValidationPool]:
    """The same for tests that leave it as it was: a process takes half a second to start."""
    pool = ValidationPool(processes=1)
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def long_table() -> str:
    """Rows that take a second or two to read."""
    return "text,label\n" + "".join(f"question {n} {'x' * (n % 90)},{'ab'[n % 2]}\n" for n in range(150_000))


def begin(pool: ValidationPool, order: Order, cancellation: Cancellation | None = None) -> Future[DatasetProfile]:
    """Read a file on a thread."""
    future: Future[DatasetProfile] = Future()

    def work() -> None:
        try:
            future.set_result(pool.inspect("customer", order, cancellation))
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


def reader(pool: ValidationPool, *, other_than: int = 0) -> int:
    """The process that reads a file now."""
    deadline = time.monotonic() + 60
    while True:
        found = [process.pid for process in pool._busy if process.ready and process.pid != other_than]
        if found:
            return found[0]
        assert time.monotonic() < deadline, "no process reads"
        time.sleep(0.005)


def test_a_profile_comes_back_as_it_was_made(validations, order):
    asked = order(GOOD)
    assert validations.inspect("customer", asked) == inspect(asked.path, filename="tickets.csv", limits=Limits())


@pytest.mark.parametrize(
    ("content", "changes"),
    [
        ("text,label\na,x\n,x\nb,\n", {}),
        ("a,b\n1,2\n", {}),
        ("text,label\na,x\nb,y\n", {"task": "text-classificaton"}),
        ("text,label\na,x\nb,y\n", {"columns": {"label": "lable"}}),
        ("text,label\n" + "a,x\n" * 8, {}),
        ("text,value\n" + "a,1\n" * 8, {}),
        (GOOD, {"limits": Limits(max_rows=3)}),
        (b"%PDF-1.7", {"filename": "a.pdf"}),
        (archive({**folders(), "ants/bad.jpg": picture()[:200]}), {"filename": "p.zip"}),
        ("", {}),
    ],
)
def test_a_refusal_comes_back_as_it_was_raised(validations, order, content, changes):
    asked = order(content, **changes)
    options = {name: getattr(asked, name) for name in ("task", "columns", "role", "limits")}
    with pytest.raises(InvalidDataset) as here:
        inspect(asked.path, filename=asked.filename, **options)
    with pytest.raises(InvalidDataset) as there:
        validations.inspect("customer", asked)
    assert type(there.value) is type(here.value)
    assert there.value.as_dict() == here.value.as_dict()
    assert there.value.total == here.value.total


def test_a_process_steps_back_and_knows_no_secret(pool, order, monkeypatch):
    if not Path("/proc/self/environ").exists():
        pytest.skip("reads /proc")
    monkeypatch.setenv("GRAFT_ADMIN_KEY", "operator-key-of-this-very-test-0123456789")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-bucket")
    pool.inspect("customer", order(GOOD))
    (process,) = pool._idle
    environment = Path(f"/proc/{process.pid}/environ").read_bytes()
    assert b"operator-key" not in environment
    assert b"secret-of" not in environment
    assert os.getpriority(os.PRIO_PROCESS, process.pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)
    assert "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text()


def test_a_process_is_kept(shared_pool, order):
    shared_pool.inspect("customer", order(GOOD))
    (process,) = shared_pool._idle
    shared_pool.inspect("customer", order(GOOD))
    assert shared_pool._idle == [process]


@pytest.mark.slow
def test_a_process_that_has_grown_is_replaced(pool, order):
    pool.inspect("customer", order(GOOD))
    (process,) = pool._idle
    row = '{"text": "a question", "label": "card"}\n{"text": "another", "label": "refund"}\n'
    grows = row * 4 + '{"text": "one more", "label": "card", "more": [' + "[]," * 5_000_000 + "[]]}\n"
    assert pool.inspect("customer", order(grows, filename="rows.jsonl")).rows == 9
    assert process not in pool._idle
    assert pool.ended["grown"] == 1
    assert len(pool._idle) == 1, "another has been started in its place"


def test_a_process_that_was_killed_while_idle_is_replaced(shared_pool, order):
    shared_pool.inspect("customer", order(GOOD))
    (process,) = shared_pool._idle
    os.kill(process.pid, signal.SIGKILL)
    assert shared_pool.inspect("customer", order(GOOD)).rows == 10
    assert shared_pool.trouble() is None


def test_the_parents_end_is_the_processes_end(pool, order):
    pool.inspect("customer", order(GOOD))
    (process,) = pool._idle
    process._process.stdin.close()
    assert process._process.wait(30) == 0


def test_a_closed_pool_answers_nobody(order):
    pool = ValidationPool(processes=1)
    pool.close()
    with pytest.raises(ValidationUnavailable):
        pool.inspect("customer", order(GOOD))


def test_a_cancelled_file_is_not_read(pool, order):
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(ValidationAbandoned):
        pool.inspect("customer", order(GOOD), cancellation)
    assert pool.counts() == {"waiting": 0, "running": 0, "processes": 0}


def test_a_disk_without_room_is_not_the_files_fault(pool, order):
    if not hasattr(resource, "prlimit"):
        pytest.skip("limits another process")
    pool.inspect("customer", order(GOOD))
    (process,) = pool._idle
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
    table = b"file,label\n" + b"".join(b"%d.jpg,%s\n" % (n, b"ab"[n % 2 : n % 2 + 1]) for n in range(8))
    content = archive({"table.csv": table, **{f"{n}.jpg": picture(seed=n) for n in range(8)}})
    with pytest.raises(DiskFull):
        pool.inspect("customer", order(content, filename="p.zip"))
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert pool.inspect("customer", order(content, filename="p.zip")).rows == 8
    assert pool._idle == [process]


@pytest.mark.slow
def test_reading_begins_again_when_its_process_was_killed(pool, order, long_table):
    reading = begin(pool, order(long_table))
    os.kill(reader(pool), signal.SIGKILL)
    assert reading.result(120).rows == 150_000
    assert pool.ended["died"] == 1


@pytest.mark.slow
def test_a_file_that_ends_its_process_twice_is_refused(pool, order, long_table):
    # Before: the whole API ended with it, and every request that it was answering.
    reading = begin(pool, order(long_table))
    first = reader(pool)
    os.kill(first, signal.SIGKILL)
    os.kill(reader(pool, other_than=first), signal.SIGKILL)
    with pytest.raises(UnreadableFile, match=r"ended without an answer, twice \(signal 9\)"):
        reading.result(60)
    assert pool.inspect("customer", order(GOOD)).rows == 10


@pytest.mark.slow
def test_a_file_that_takes_too_long_ends_its_process(pool, order, long_table):
    # Before: as long as it took, on a thread that nothing can end.
    with pytest.raises(ValidationTimeout, match=r"within 0\.5 seconds of computing time"):
        pool.inspect("customer", order(long_table, seconds=0.5))
    assert pool.ended["timeout"] == 1
    assert pool.inspect("customer", order(GOOD)).rows == 10


@pytest.mark.slow
def test_reading_ends_when_nobody_waits_for_it(pool, order, long_table):
    cancellation, asked = Cancellation(), order(long_table)  # once: it would be written again while it is read
    reading = begin(pool, asked, cancellation)
    process = reader(pool)
    waits = Cancellation()
    waiting = begin(pool, asked, waits)
    waits.cancel()
    with pytest.raises(ValidationAbandoned):
        waiting.result(60)
    cancellation.cancel()
    with pytest.raises(ValidationAbandoned):
        reading.result(60)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    assert pool.ended["abandoned"] == 1


@pytest.mark.slow
def test_a_small_file_is_read_while_large_ones_of_another_wait(order, long_table, tmp_path):
    # Before: 32 s behind nine files of 47 MB (tests/benchmarks/upload_fairness.py).
    small, folder = order(GOOD), tmp_path / "large"
    folder.mkdir()
    path = folder / "upload"
    path.write_text(long_table)
    pool = ValidationPool(processes=2)
    try:
        pool.inspect("quiet", small)
        reading = [begin(pool, replace(small, path=path)) for _ in range(4)]
        reader(pool)
        assert pool.inspect("quiet", small).rows == 10
        assert sum(each.done() for each in reading) < 3
        assert [each.result(300).rows for each in reading] == [150_000] * 4
    finally:
        pool.close()


@pytest.mark.slow
def test_memory_is_bounded(order):
    pool = ValidationPool(processes=1, memory_bytes=2**28)
    rows = b'{"text": "a question", "label": "card"}\n' * 4 + b'{"text": [' + b"[1]," * 4_000_000 + b"[1]]}\n"
    try:
        with pytest.raises(ValidationMemory, match="takes more than 268435456 bytes of memory"):
            pool.inspect("customer", order(rows, filename="rows.jsonl"))
        assert asdict(pool.inspect("customer", order(GOOD)))["rows"] == 10
    finally:
        pool.close()
