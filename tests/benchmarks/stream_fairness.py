"""Predictions beside event streams and slow connections: `python -m tests.benchmarks.stream_fairness`.

Three customers follow thirty jobs by 300 event streams, each job with an event and a new percentage every second. Then
300 connections send a byte of a header or of a body each second. Meanwhile a fourth customer asks for predictions one
after another. `--tree CHECKOUT` measures the server of another checkout, with this one's clients.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from sqlalchemy import update

from models.records import job_events
from models.records.database import Database
from models.records.jobs import Job
from tests.benchmarks import results
from tests.benchmarks.embedded import Embedded, running
from tests.benchmarks.upload_fairness import after, predict, repeat, summary, train

STREAMS, SLOW = 300, 300
_CUSTOMERS, _JOBS = 3, 10
_ARM_S = 12.0
_QUIET_S = 5.0
_DRIP_S = 1.0
_ROWS = [
    {"text": f"A question about the {what} number {n}", "label": what} for n in range(20) for what in ("card", "fee")
]


def measure(folder: Path, *, tree: Path | None = None, seconds: float = _ARM_S) -> dict[str, Any]:
    """Return milliseconds of predictions: idle, beside the streams, and beside the slow connections."""
    with running(folder, tree=tree, GRAFT_EXPERIENCE="false") as embedded:
        followed = {embedded.new_customer(f"watcher-{number}"): [] for number in range(_CUSTOMERS)}
        quiet = embedded.new_customer("quiet")
        with embedded.client(quiet) as client:
            model = train(client)
            for key in followed:
                followed[key] = _paused_jobs(embedded, key)
            repeat(lambda: predict(client, model), until=after(2.0))
            api = _api_of(embedded)
            found = {"idle_ms": _milliseconds(lambda: predict(client, model), seconds), "idle_cpu": _load(api)}
            streams = [(key, job) for key, ids in followed.items() for job in ids] * (STREAMS // (_CUSTOMERS * _JOBS))
            with (
                _beside(_follow, embedded.url, streams),
                _changing(folder / "data" / "graft.db", [job for _, job in streams]),
            ):
                found["streams_ms"] = _milliseconds(lambda: predict(client, model), seconds)
                found["streams_cpu"] = _load(api)
            with _beside(_drip, embedded.url, next(iter(followed)), SLOW):
                found["slow_ms"] = _milliseconds(lambda: predict(client, model), seconds)
                found["slow_cpu"] = _load(api)
    return {"streams": STREAMS, "slow": SLOW, **found}


def lines(found: dict[str, Any]) -> list[list[str]]:
    """Return the rows of the table: beside what, p50, p99, p50 by that of an idle server, the load's own processor."""
    idle = found["idle_ms"]["p50"]
    arms = (("nothing", "idle"), (f"{found['streams']} event streams", "streams"))
    arms += ((f"{found['slow']} slow connections", "slow"),)
    return [
        [
            what,
            f"{found[f'{arm}_ms']['p50']:.1f} ms",
            f"{found[f'{arm}_ms']['p99']:.1f} ms",
            f"{found[f'{arm}_ms']['p50'] / idle:.2f}",
            f"{100 * found[f'{arm}_cpu']:.0f} %",
        ]
        for what, arm in arms
    ]


def _milliseconds(work: Callable[[], None], seconds: float) -> dict[str, float]:
    return summary([1e3 * value for value in repeat(work, until=after(seconds))])


def _api_of(embedded: Embedded) -> psutil.Process:
    children = psutil.Process(embedded.pid).children()
    return next(child for child in children if {"api.server", "uvicorn"} & set(child.cmdline()))


def _load(process: psutil.Process) -> float:
    """Return what share of a core a process takes while nobody asks it for predictions."""
    before, began = process.cpu_times(), time.perf_counter()
    time.sleep(_QUIET_S)
    after_it = process.cpu_times()
    used = after_it.user + after_it.system - before.user - before.system
    return used / (time.perf_counter() - began)


def _paused_jobs(embedded: Embedded, key: str) -> list[str]:
    """Jobs that neither run nor end, so that nothing but the streams takes the processor."""
    made = []
    with embedded.client(key) as client:
        for number in range(_JOBS):
            body = {"training_data": _ROWS, "suffix": f"followed-{number}", "strategy": "head"}
            job = client.post("/v1/fine_tuning/jobs", json=body).raise_for_status().json()["id"]
            client.post(f"/v1/fine_tuning/jobs/{job}/pause")
            made.append(job)
    return made


@contextlib.contextmanager
def _changing(path: Path, job_ids: list[str]) -> Iterator[None]:
    """Give each job an event and another percentage every second, as a worker does."""
    database, done = Database(f"sqlite:///{path}"), threading.Event()

    def change() -> None:
        number = 0
        while not done.wait(1.0):
            number += 1
            with database.transaction() as session:
                for job_id in sorted(set(job_ids)):
                    session.execute(update(Job).where(Job.id == job_id).values(percent=float(number)))
                    job_events.add(session, job_id, f"Step {number}.")

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        database.close()


@contextlib.contextmanager
def _beside(load: Callable[..., Any], *arguments: Any) -> Iterator[None]:
    """Run a load in a process of its own, which has begun before the block does."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_run, args=(load, ready, *arguments), daemon=True)
    process.start()
    if not ready.wait(120):
        raise RuntimeError("the load did not begin")
    time.sleep(2.0)
    try:
        yield
    finally:
        process.terminate()
        process.join(30)
        time.sleep(2.0)


def _run(load: Callable[..., Any], ready: Any, *arguments: Any) -> None:
    os.nice(19)  # customers have machines of their own
    asyncio.run(load(ready, *arguments))


async def _follow(ready: Any, url: str, streams: list[tuple[str, str]]) -> None:
    where = urlsplit(url)

    async def follow(key: str, job_id: str) -> None:
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        path = f"/v1/fine_tuning/jobs/{job_id}/events?stream=true"
        writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\r\n".encode())
        head = await reader.readline()
        if b" 200 " not in head:
            raise RuntimeError(f"refused: {head!r} {await reader.read(2000)!r}")
        began.append(job_id)
        if len(began) == len(streams):
            ready.set()
        while await reader.read(65536):
            pass
        raise RuntimeError("a stream has ended")

    began: list[str] = []
    await asyncio.gather(*(follow(*stream) for stream in streams))


async def _drip(ready: Any, url: str, key: str, count: int) -> None:
    where = urlsplit(url)
    starts = [
        b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: ",
        b"POST /v1/fine_tuning/jobs HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n"
        b"authorization: Bearer " + key.encode() + b"\r\n\r\n",
    ]

    async def drip(start: bytes) -> None:
        while True:  # when the server ends it, another one
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(where.hostname, where.port)
                writer.write(start)
                while not writer.is_closing():
                    writer.write(b" ")
                    await writer.drain()
                    await asyncio.sleep(_DRIP_S)

    ready.set()
    await asyncio.gather(*(drip(starts[number % 2]) for number in range(count)))


def main() -> None:
    """Measure once and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tree", type=Path, help="checkout whose server is measured")
    parser.add_argument("--save", help="name of the result, such as before or after")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="graft-fairness-") as folder:
        found = measure(Path(folder), tree=chosen.tree)
    results.show(
        f"predict of another customer, {chosen.tree or 'this checkout'}",
        ["beside", "p50", "p99", "p50 by alone", "core taken without predictions"],
        lines(found),
    )
    if chosen.save:
        results.save(f"stream_fairness/{chosen.save}", found)


if __name__ == "__main__":
    main()
