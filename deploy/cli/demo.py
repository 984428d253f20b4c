"""`graft demo`: the whole product in one command, on data that comes with it, in a folder that is gone afterwards."""

from __future__ import annotations

import csv
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from deploy.cli import console, picture_demo, writing_demo
from deploy.cli.client import Client
from deploy.cli.connection import Connection
from deploy.cli.console import out
from deploy.cli.errors import CommandError
from deploy.cli.prediction import answer_line
from deploy.cli.progress import follow
from deploy.cli.signals import interrupting
from deploy.cli.training import show_job, submit
from deploy.local.launcher import Deployment, Plan
from models.backbones import registry
from models.settings import Settings

SAMPLES = Path(__file__).parent / "samples"
_QUESTIONS = (
    "the parcel came today and the grinder's lid is cracked right through",
    "You took the money twice for my last order. Please send one of them back.",
    "I won't need any more beans from next month on, please end my plan.",
)


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Keep the data folder, and say where it is.")] = False,
    pictures: Annotated[bool, typer.Option("--pictures", help="Train on drawings instead of tickets.")] = False,
    generate: Annotated[bool, typer.Option("--generate", help="Train a model that writes.")] = False,
) -> None:
    """Start Graft, train a model on sample tickets (or drawings, or facts to write about), call it, and clean up."""
    if pictures:
        registry.check(registry.mobilenet_v2(Settings()))
    if generate:
        registry.check(registry.smollm2(Settings()))
    began = time.monotonic()
    with interrupting(), _data_folder(keep) as folder, _deployment(folder) as deployment:
        _step(f"Graft is up after {console.duration(time.monotonic() - began)}: {deployment.url}")
        with Client(Connection(deployment.url, deployment.admin_key)) as operator:
            customer = operator.post("/v1/customers", {"name": "acme"})
            issued = operator.post(f"/v1/customers/{customer['id']}/keys", {"name": "demo"})
        _step(f"Customer acme with the key {issued['prefix']}…")
        with Client(Connection(deployment.url, issued["key"])) as client:
            if pictures:
                picture_demo.run(client, folder, _step)
            elif generate:
                writing_demo.run(client, folder, _step)
            else:
                _train(client)
                _ask(client)
                _score(client)
        with console.err.status("Stopping …"):
            deployment.stop()
    _step(f"Stopped, {'kept in ' + str(folder) if keep else 'nothing is left behind'}.")
    out.print(f"\nThe demo took {console.duration(time.monotonic() - began)}. `make serve` keeps a Graft running.")


def _train(client: Client) -> None:
    table = SAMPLES / "tickets.csv"
    _step(f"POST /v1/fine_tuning/jobs  file=@{table.name} ({len(_rows(table))} labelled tickets)  suffix=tickets")
    posted = time.monotonic()

    def servable(job: dict[str, Any]) -> None:
        took = console.duration(time.monotonic() - posted)
        console.err.print(Text(f"{job['fine_tuned_model']} answers, {took} after the POST.", style="bold green"))

    job = follow(client, submit(client, {"file": table}, {"suffix": "tickets", "seed": "7"}), servable=servable)
    show_job(job)
    if job["status"] != "succeeded":
        raise CommandError(reason=f"The demo's job ended as {job['status']}.")


def _ask(client: Client) -> None:
    _step("POST /v1/models/tickets/predict")
    for question in _QUESTIONS:
        started = time.perf_counter()
        answer = client.post("/v1/models/tickets/predict", {"inputs": [question], "top_k": 2})
        took_ms = (time.perf_counter() - started) * 1000
        stages = answer.get("timings", {})
        spent = ", ".join(f"{name} {stages[name]:.1f}" for name in ("queue", "tokenize", "compute") if name in stages)
        timing = f"{took_ms:.1f} ms over HTTP" + (f" (server: {spent} ms)" if spent else "")
        out.print(
            Text.assemble((f"  {question}\n    → ", "dim"), *answer_line(answer["predictions"][0]), (timing, "dim"))
        )


def _score(client: Client) -> None:
    rows = _rows(SAMPLES / "tickets_test.csv")
    started = time.perf_counter()
    answer = client.post("/v1/models/tickets/predict", {"inputs": [row["text"] for row in rows]})
    took_s = time.perf_counter() - started
    right = sum(
        row["label"] == prediction["label"] for row, prediction in zip(rows, answer["predictions"], strict=True)
    )
    _step(
        f"{right} of {len(rows)} unseen tickets are answered right (accuracy {right / len(rows):.3f}), "
        f"{len(rows)} in one request: {took_s * 1000:.0f} ms"
    )


@contextmanager
def _data_folder(keep: bool) -> Iterator[Path]:
    if keep:
        yield Path(tempfile.mkdtemp(prefix="graft-demo-"))
        return
    # A worker that is killed late may still write: what is left then is not worth an error.
    with tempfile.TemporaryDirectory(prefix="graft-demo-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@contextmanager
def _deployment(folder: Path) -> Iterator[Deployment]:
    # The demo is embedded whatever the shell has set for another deployment.
    for name in ("GRAFT_BROKER_URL", "GRAFT_DATABASE_URL", "GRAFT_OBJECT_STORE", "GRAFT_S3_ENDPOINT_URL"):
        os.environ.pop(name, None)
    deployment = Deployment(
        Plan(data=folder, port=0), report=lambda line: console.err.print(Text(line, style="yellow"))
    )
    with console.err.status("Starting API, predictor, worker and queue …"):
        deployment.start()
    try:
        yield deployment
    finally:
        deployment.stop()


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _step(text: str) -> None:
    out.print(Text.assemble(("\n▸ ", "dim"), (text, "bold")))
