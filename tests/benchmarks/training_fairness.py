"""How long one customer's job waits behind another's 25: `python -m tests.benchmarks.training_fairness`.

A real `graft up` with one worker. One customer submits 25 small jobs, another one right behind them; what counts are
the seconds from its POST to the end of its job, beside those of the same job alone. `--before TREE` measures another
checkout first, in the same session on the same machine, and prints both.
"""

from __future__ import annotations

import argparse
import csv
import io
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.benchmarks.embedded import Embedded, running

SAMPLE = Path(__file__).parents[2] / "deploy/cli/samples/tickets.csv"
_LABELS, _ROWS_PER_LABEL = 4, 12
_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Round:
    """Seconds from a POST to the end of its job."""

    alone: float
    behind: float
    backlog: float  # until the last of the 25 has ended
    ended_before: int  # of the 25, when the other customer's job ended


def measure(deployment: Embedded, number: int, jobs: int) -> Round:
    """Measure one round with two customers that nobody has seen before."""
    many = deployment.client(deployment.new_customer(f"many-{number}"))
    one = deployment.client(deployment.new_customer(f"one-{number}"))
    with many, one:
        files = {client: _upload(client) for client in (many, one)}
        began = time.monotonic()
        _wait(one, _submit(one, files[one], "alone"))
        alone = time.monotonic() - began
        backlog_began = time.monotonic()
        backlog = [_submit(many, files[many], f"model-{at}") for at in range(jobs)]
        began = time.monotonic()
        _wait(one, _submit(one, files[one], "behind"))
        behind = time.monotonic() - began
        ended = sum(_status(many, job_id) == "succeeded" for job_id in backlog)
        for job_id in backlog:
            _wait(many, job_id)
        return Round(alone, behind, time.monotonic() - backlog_began, ended)


def run(folder: Path, rounds: int, jobs: int, tree: Path | None) -> list[Round]:
    """Measure on one deployment, the first round to warm up."""
    folder.mkdir()
    with running(folder, "--workers", "1", tree=tree) as deployment:
        return [measure(deployment, number, jobs) for number in range(rounds + 1)][1:]


def describe(arm: str, found: list[Round], jobs: int) -> str:
    """Return a row of the table."""
    alone, behind, backlog = (
        statistics.median(getattr(one, name) for one in found) for name in ("alone", "behind", "backlog")
    )
    ended = statistics.median(one.ended_before for one in found)
    return (
        f"| another's job behind {jobs} of one customer, {arm} | {alone:.1f} s | {behind:.1f} s "
        f"| {ended:.0f} of {jobs} ended before it; the {jobs} took {backlog:.1f} s |"
    )


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.training_fairness", description=__doc__)
    parser.add_argument("--before", type=Path, metavar="TREE", help="another checkout, measured first")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=25)
    asked = parser.parse_args()
    arms = [("before", asked.before)] if asked.before else []
    rows = []
    with tempfile.TemporaryDirectory(prefix="graft-fairness-") as folder:
        for arm, tree in [*arms, ("now", None)]:
            rows.append(describe(arm, run(Path(folder) / arm, asked.rounds, asked.jobs, tree), asked.jobs))
            sys.stderr.write(f"{rows[-1]}\n")
    sys.stdout.write("| measure | alone | beside the other | figures |\n| --- | ---: | ---: | --- |\n")
    sys.stdout.write("\n".join(rows) + "\n")
    return 0


def _small_sample() -> str:
    """Return some rows of the sample, so that a job takes no longer than it must."""
    with SAMPLE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    labels = sorted({row["label"] for row in rows})[:_LABELS]
    out = io.StringIO()
    writer = csv.DictWriter(out, ["text", "label"], extrasaction="ignore")
    writer.writeheader()
    for label in labels:
        writer.writerows([row for row in rows if row["label"] == label][:_ROWS_PER_LABEL])
    return out.getvalue()


def _upload(client: httpx.Client) -> str:
    files = {"file": (SAMPLE.name, _small_sample().encode())}
    answer = client.post("/v1/files", files=files, data={"purpose": "fine-tune"})
    return str(answer.raise_for_status().json()["id"])


def _submit(client: httpx.Client, file_id: str, suffix: str) -> str:
    body = {"training_file": file_id, "suffix": suffix, "strategy": "head", "seed": 1}
    return str(client.post("/v1/fine_tuning/jobs", json=body).raise_for_status().json()["id"])


def _status(client: httpx.Client, job_id: str) -> str:
    return str(client.get(f"/v1/fine_tuning/jobs/{job_id}").raise_for_status().json()["status"])


def _wait(client: httpx.Client, job_id: str) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while (status := _status(client, job_id)) != "succeeded":
        if status in {"failed", "cancelled"} or time.monotonic() > deadline:
            raise RuntimeError(f"the job {job_id} is {status}")
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
