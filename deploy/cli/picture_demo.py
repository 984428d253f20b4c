"""`graft demo --pictures`: learns thumbs up and thumbs down from drawings that it makes itself."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.text import Text

from deploy.cli import console, drawings
from deploy.cli.client import Client
from deploy.cli.console import out
from deploy.cli.errors import CommandError
from deploy.cli.prediction import answer_line
from deploy.cli.progress import follow
from deploy.cli.training import show_job, submit

_TRAIN, _TEST = 40, 20  # drawings of each kind
_SHOWN = 2  # answers of each kind


def run(client: Client, folder: Path, step: Callable[[str], None]) -> None:
    """Draw, train, ask about drawings that the model has not seen, and score all of those."""
    archive = folder / "thumbs.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for path, label in drawings.write(folder / "train", _TRAIN, first_seed=0):
            target.write(path, f"{label}/{path.name}")
    unseen = drawings.write(folder / "unseen", _TEST, first_seed=_TRAIN)
    fields = {"suffix": "thumbs", "seed": "7", "strategy": "head"}
    shown = "  ".join(f"{name}={value}" for name, value in fields.items() if name != "seed")
    step(f"POST /v1/fine_tuning/jobs  file=@{archive.name} ({2 * _TRAIN} drawings, a folder per label)  {shown}")
    posted = time.monotonic()

    def servable(job: dict[str, Any]) -> None:
        took = console.duration(time.monotonic() - posted)
        console.err.print(Text(f"{job['fine_tuned_model']} answers, {took} after the POST.", style="bold green"))

    job = follow(client, submit(client, {"file": archive}, fields), servable=servable)
    show_job(job)
    if job["status"] != "succeeded":
        raise CommandError(reason=f"The demo's job ended as {job['status']}.")
    step("POST /v1/models/thumbs/predict  (multipart)")
    started = time.perf_counter()
    answers = [_ask(client, path) for path, _ in unseen]
    took_ms = (time.perf_counter() - started) * 1000 / len(unseen)
    for number in (*range(_SHOWN), *range(_TEST, _TEST + _SHOWN)):
        out.print(Text.assemble((f"  {unseen[number][0].name}\n    → ", "dim"), *answer_line(answers[number])))
    right = sum(answer["label"] == label for answer, (_, label) in zip(answers, unseen, strict=True))
    step(f"{right} of {len(unseen)} unseen drawings are answered right, {took_ms:.0f} ms each")


def _ask(client: Client, path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        answer = client.upload("/v1/models/thumbs/predict", fields={}, files={"file": (path.name, file)})
    prediction: dict[str, Any] = answer["predictions"][0]
    return prediction
