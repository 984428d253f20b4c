"""Rows whose arms are processes: the engine behind HTTP, and the usual way of one pipeline per customer."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from deploy.local import threads
from tests.benchmarks.embedded import running
from tests.benchmarks.serving_arms import arm
from tests.benchmarks.serving_load import medians, turns
from tests.benchmarks.serving_plan import Found, Plan
from tests.benchmarks.serving_world import MODEL, secret_of

CONNECTIONS = 64
CUSTOMERS = 200
PIPELINES = 8
LABELS = 10
_SCRIPT = Path(__file__).with_name("serving_requests.lua")


class MissingTool(Exception):
    """A row needs a program that is not installed."""


def over_http(plan: Plan) -> Found:
    """Row 7: closed loop over HTTP (keep-alive, one text a request, 64 connections) over the engine in process.

    `graft up` serves the one, a process with the same settings is the other; they take turns.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise MissingTool("wrk is not installed (Debian: apt install wrk)")
    customers, texts = plan.few(CUSTOMERS), plan.texts
    # As many lines as both lists can be paired in.
    lines = [
        f"{secret_of(customers[at % len(customers)])} {json.dumps({'input': texts[at % len(texts)]})}"
        for at in range(max(len(customers), len(texts)))
    ]
    requests = plan.folder / "requests.txt"
    requests.write_text("\n".join(lines) + "\n", encoding="utf-8")
    same = threads.environment(threads.share("api", workers=1, threads=0))
    found: dict[str, list[dict[str, Any]]] = {"http": [], "in process": []}
    with (
        running(plan.home.parent) as embedded,
        arm("graft", env=same, home=str(plan.home), count=len(customers), texts=texts) as inside,
    ):
        arms = {
            "http": lambda seconds: _wrk(wrk, embedded.url, requests, seconds),
            "in process": inside.run,
        }
        for measure in arms.values():
            measure(max(1.0, plan.seconds / 2))
        for name in turns(arms, plan.rounds):
            found[name].append(arms[name](plan.seconds))
    rates = medians({name: [run["rate"] for run in runs] for name, runs in found.items()})
    return {
        "value": rates["http"] / rates["in process"],
        "requests_per_s": rates,
        "p99_ms": medians({name: [run["p99_ms"] for run in runs] for name, runs in found.items()}),
        "compute_threads": int(same["GRAFT_THREADS"]),
        "rounds": found,
    }


def _wrk(wrk: str, url: str, requests: Path, seconds: float) -> dict[str, Any]:
    address = f"{url}/v1/models/{MODEL}/predict"
    # wrk counts whole seconds.
    command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "--latency", "-s", str(_SCRIPT)]
    done = subprocess.run([*command, address, "--", str(requests)], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if found["refused"] or found["broken"] or not found["requests"]:
        raise RuntimeError(f"wrk: {done.stdout}")
    return {"rate": found["requests"] / found["seconds"], **found}


def usual_way(plan: Plan) -> Found:
    """Row 9: one process for 200 customers, over one Hugging Face pipeline per customer.

    Pipelines are measured on a few: each further one takes as much memory as the one before.
    """
    customers = plan.few(CUSTOMERS)
    rates: dict[str, list[float]] = {"graft": [], "pipelines": []}
    with (
        arm("graft", home=str(plan.home), count=len(customers), texts=plan.texts) as graft,
        arm("pipelines", count=PIPELINES, texts=plan.texts, labels=LABELS) as pipelines,
    ):
        arms = {"graft": graft, "pipelines": pipelines}
        for each in arms.values():
            each.run(plan.seconds / 2)
        last: dict[str, dict[str, Any]] = {}
        for name in turns(arms, plan.rounds):
            last[name] = arms[name].run(plan.seconds)
            rates[name].append(last[name]["rate"])
        grown = pipelines.ready["resident_by_model"]
    middle = medians(rates)
    further = float(np.polyfit(range(2, len(grown)), grown[2:], 1)[0])
    theirs = grown[-1] + (len(customers) - len(grown)) * further
    return {
        "value": middle["graft"] / middle["pipelines"],
        "customers": len(customers),
        "requests_per_s": middle,
        "resident_bytes": {"graft": last["graft"]["resident_bytes"], "pipelines": theirs},
        "memory": theirs / last["graft"]["resident_bytes"],
        "bytes_of_a_further_pipeline": further,
        "pipelines_measured": len(grown),
        "rounds": rates,
    }
