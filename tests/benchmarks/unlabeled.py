"""Rows without labels: one job with them beside one without, over HTTP, judged by test rows.

`python -m tests.benchmarks.unlabeled [--draws 3 4 5] [--per-class 5] [--unlabeled 2000] [--strategy head]`. banking77,
or without it the sample tickets. The seed of a draw is the job's, too. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from models.records.transitions import ENDED
from tests.benchmarks import public_data
from tests.benchmarks.embedded import Embedded, running
from tests.benchmarks.public_data import Rows

_ROWS_PER_REQUEST = 1_000


@dataclass(frozen=True)
class Draw:
    """Rows with labels, rows without, rows to be judged by."""

    labelled: Rows
    unlabeled: Rows
    test: Rows


@dataclass(frozen=True)
class Trained:
    """What a job came to."""

    accuracy: float  # on the test rows
    seconds: float
    candidate: str
    report: dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--draws", type=int, nargs="+", default=[3, 4, 5])
    parser.add_argument("--per-class", type=int, default=5)
    parser.add_argument("--unlabeled", type=int, default=2_000, help="rows without labels")
    parser.add_argument("--strategy", default="head")
    options = parser.parse_args(argv)
    print("| draw | without | with | gain | held-out gain | taken in each round | answers | s without | s with |")
    print("| ---: | ---: | ---: | ---: | ---: | --- | --- | ---: | ---: |")
    with tempfile.TemporaryDirectory() as place, running(Path(place)) as embedded:
        for seed in options.draws:
            draw = draw_rows(options.per_class, options.unlabeled, seed)
            folder = Path(place) / str(seed)
            folder.mkdir()
            plain = _train(embedded, draw, folder, options.strategy, seed, with_unlabeled=False)
            helped = _train(embedded, draw, folder, options.strategy, seed, with_unlabeled=True)
            print(_line(seed, plain, helped), flush=True)
    return 0


def draw_rows(per_class: int, count: int, seed: int) -> Draw:
    """The rows of one draw: so many of each class, and others of the same set without their labels."""
    _, train, test = public_data.short_texts()
    labelled = public_data.few_per_class(train, per_class, label_of=lambda row: row[1], seed=seed)
    others = sorted(set(train) - set(labelled))
    return Draw(labelled, random.Random(seed).sample(others, min(count, len(others))), test)


def _train(embedded: Embedded, draw: Draw, folder: Path, strategy: str, seed: int, *, with_unlabeled: bool) -> Trained:
    key = embedded.new_customer(f"draw-{seed}-{'with' if with_unlabeled else 'without'}")
    labelled = public_data.write_csv(draw.labelled, folder / "labelled.csv")
    more = folder / "more.csv"
    public_data.write_csv([(text, "") for text, _ in draw.unlabeled], more)
    with embedded.client(key) as client:
        began = time.perf_counter()
        files = {"file": (labelled.name, labelled.read_bytes())}
        if with_unlabeled:
            files["unlabeled_file"] = (more.name, more.read_bytes())
        fields = {"suffix": "bench", "seed": str(seed), "strategy": strategy}
        job = client.post("/v1/fine_tuning/jobs", files=files, data=fields).raise_for_status().json()
        while job["status"] not in ENDED:
            time.sleep(0.2)
            job = client.get(f"/v1/fine_tuning/jobs/{job['id']}").raise_for_status().json()
        assert job["status"] == "succeeded", job["error"]
        seconds = time.perf_counter() - began
        hits = sum(
            _hits(client, draw.test[at : at + _ROWS_PER_REQUEST]) for at in range(0, len(draw.test), _ROWS_PER_REQUEST)
        )
    return Trained(hits / len(draw.test), seconds, str(job["report"]["strategy"]), job["report"])


def _hits(client: httpx.Client, rows: Rows) -> int:
    body = {"inputs": [text for text, _ in rows]}
    answers = client.post("/v1/models/bench/predict", json=body).raise_for_status().json()["predictions"]
    return sum(answer["label"] == label for answer, (_, label) in zip(answers, rows, strict=True))


def _line(seed: int, plain: Trained, helped: Trained) -> str:
    found = helped.report["self_training"]
    cells = (
        seed,
        f"{plain.accuracy:.4f}",
        f"{helped.accuracy:.4f}",
        f"{100 * (helped.accuracy - plain.accuracy):+.1f}",
        f"{100 * found['gain']:+.1f} ({100 * found['gain_low']:+.1f} to {100 * found['gain_high']:+.1f})",
        ", ".join(map(str, found["taken"])),
        helped.candidate if found["used"] else f"{helped.candidate}: not used",
        f"{plain.seconds:.0f}",
        f"{helped.seconds:.0f}",
    )
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    sys.exit(main())
