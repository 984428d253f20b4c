"""Uploads of one customer beside another's: `python -m tests.benchmarks.upload_fairness [--tree CHECKOUT]`.

One customer uploads nine files of 47 MB at once. Meanwhile another uploads a small one, again and again, and asks for
predictions one after another. `--tree` measures the server of another checkout, with this one's clients.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import multiprocessing
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.benchmarks import results
from tests.benchmarks.embedded import Embedded, running

FILES, MEGABYTES = 9, 47
_BOUNDARY = "graft-benchmark"
_IDLE_S = 6.0
_START_S = 600.0  # of nine clients, on a machine that does other work


def measure(
    folder: Path, *, tree: Path | None = None, files: int = FILES, megabytes: int = MEGABYTES
) -> dict[str, Any]:
    """Return seconds of small uploads and milliseconds of predictions, idle and beside the large uploads."""
    body = _write_form(folder / "large.form", megabytes * 10**6)
    with running(folder, tree=tree, GRAFT_EXPERIENCE="false") as embedded:
        loud, quiet = embedded.new_customer("loud"), embedded.new_customer("quiet")
        with embedded.client(quiet) as client, embedded.client(quiet) as uploader:
            model = train(client)
            repeat(lambda: predict(client, model), until=after(2.0))
            idle_small = [_timed(lambda: _upload_small(uploader)) for _ in range(10)]
            idle_predict = repeat(lambda: predict(client, model), until=after(_IDLE_S))
            with _loading(embedded, loud, body, files) as load:
                began = time.perf_counter()
                small: list[float] = []
                thread = threading.Thread(target=lambda: small.extend(_uploads(uploader, load)))
                thread.start()
                beside = repeat(lambda: predict(client, model), until=lambda: not _alive(load))
                took = time.perf_counter() - began
                thread.join()
            assert all(process.exitcode == 0 for process in load), "a large upload was refused"
    return {
        "files": files,
        "megabytes": megabytes,
        "all_large_s": took,
        "small_idle_s": summary(idle_small),
        "small_s": summary(small),
        "predict_idle_ms": summary([1e3 * value for value in idle_predict]),
        "predict_ms": summary([1e3 * value for value in beside]),
    }


def lines(found: dict[str, Any]) -> list[list[str]]:
    """Return the rows of the table: what, idle, beside the load, and their ratio."""
    small, predict = (found["small_idle_s"], found["small_s"]), (found["predict_idle_ms"], found["predict_ms"])
    return [
        ["another's small upload, first", f"{small[0]['p50']:.2f} s", f"{small[1]['first']:.2f} s", ""],
        ["another's small upload, slowest", f"{small[0]['max']:.2f} s", f"{small[1]['max']:.2f} s", ""],
        ["predict p50", *(f"{each['p50']:.1f} ms" for each in predict), f"{predict[1]['p50'] / predict[0]['p50']:.2f}"],
        ["predict p99", *(f"{each['p99']:.1f} ms" for each in predict), f"{predict[1]['p99'] / predict[0]['p99']:.2f}"],
        ["all large ones accepted", "", f"{found['all_large_s']:.1f} s", ""],
    ]


def train(client: httpx.Client) -> str:
    job = client.post(
        "/v1/fine_tuning/jobs",
        files={"file": ("small.csv", _small())},
        data={"suffix": "quiet", "strategy": "head"},
    )
    identifier = job.raise_for_status().json()["id"]
    deadline = time.monotonic() + 300
    while (status := client.get(f"/v1/fine_tuning/jobs/{identifier}").json()["status"]) != "succeeded":
        assert status not in ("failed", "cancelled"), status
        assert time.monotonic() < deadline, "no version"
        time.sleep(0.2)
    return "quiet"


def predict(client: httpx.Client, model: str) -> None:
    answer = client.post(f"/v1/models/{model}/predict", json={"input": "Where is the card that I ordered?"})
    answer.raise_for_status()


def _uploads(client: httpx.Client, load: list[Any]) -> Iterator[float]:
    """Yield the seconds of small uploads, one every quarter of a second while the load lasts."""
    while True:
        yield _timed(lambda: _upload_small(client))
        if not _alive(load):
            return
        time.sleep(0.25)


def _upload_small(client: httpx.Client) -> None:
    client.post("/v1/files", files={"file": ("small.csv", _small())}, data={"purpose": "fine-tune"}).raise_for_status()


def _small() -> bytes:
    rows = [f"A question about the {what} number {n},{what}" for n in range(40) for what in ("card", "loan", "fee")]
    return "\n".join(["text,label", *rows]).encode()


@contextlib.contextmanager
def _loading(embedded: Embedded, key: str, body: Path, files: int) -> Iterator[list[Any]]:
    """Run the large uploads, each in a process; they begin before the block does."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(files + 1)
    load = [context.Process(target=_send, args=(embedded.url, key, body, ready)) for _ in range(files)]
    for process in load:
        process.start()
    ready.wait(_START_S)
    try:
        yield load
    finally:
        for process in load:
            process.join(600)


def _send(url: str, key: str, body: Path, ready: Any) -> None:
    os.nice(19)  # customers send from machines of their own
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=600, blocksize=2**20)
    ready.wait(_START_S)
    headers = {
        "authorization": f"Bearer {key}",
        "content-type": f"multipart/form-data; boundary={_BOUNDARY}",
        "content-length": str(body.stat().st_size),
    }
    with body.open("rb") as content:
        connection.request("POST", "/v1/files", body=content, headers=headers)
        answer = connection.getresponse()
    if answer.status != 200:
        raise SystemExit(f"{answer.status}: {answer.read(500)!r}")


def _write_form(path: Path, size: int) -> Path:
    """Write a multipart form with a CSV file of `size` bytes: different texts of about 300 characters, 20 labels."""
    random.seed(0)
    words = [f"{a}{b}{c}" for a in ("ba", "co", "di", "fu") for b in ("rn", "l", "st") for c in ("er", "a", "ing")]
    with path.open("wb") as file:
        file.write(f"--{_BOUNDARY}\r\ncontent-disposition: form-data; name=purpose\r\n\r\nfine-tune\r\n".encode())
        disposition = 'content-disposition: form-data; name=file; filename="large.csv"'
        file.write(f"--{_BOUNDARY}\r\n{disposition}\r\n\r\n".encode())
        file.write(b"text,label\n")
        while file.tell() < size:
            rows = (f"{' '.join(random.choices(words, k=50))},label{random.randrange(20)}\n" for _ in range(1_000))
            file.write("".join(rows).encode())
        file.write(f"\r\n--{_BOUNDARY}--\r\n".encode())
    return path


def repeat(work: Callable[[], None], *, until: Callable[[], bool]) -> list[float]:
    found = [_timed(work)]
    while not until():
        found.append(_timed(work))
    return found


def after(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def _timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _alive(load: list[Any]) -> bool:
    return any(process.is_alive() for process in load)


def summary(values: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=100) if len(values) > 1 else values * 99
    return {"n": len(values), "first": values[0], "p50": cuts[49], "p99": cuts[98], "max": max(values)}


def main() -> None:
    """Measure once and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tree", type=Path, help="checkout whose server is measured")
    parser.add_argument("--save", help="name of the result, such as before or after")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="graft-fairness-") as folder:
        found = measure(Path(folder), tree=chosen.tree)
    what = f"{found['files']} uploads of {found['megabytes']} MB of one customer, {chosen.tree or 'this checkout'}"
    results.show(what, ["measure", "idle", "beside them", "ratio"], lines(found))
    if chosen.save:
        results.save(f"upload_fairness/{chosen.save}", found)


if __name__ == "__main__":
    main()
