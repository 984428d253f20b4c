"""Seconds from the POST of a job to the first answer of its model, over HTTP, with a server of its own."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from models.records.transitions import ENDED
from models.settings import Settings
from tests.benchmarks import embedded

DEADLINE_S = 900.0


def first_answer(chats: Path, folder: Path, tree: Path) -> dict[str, Any]:
    """Start `graft up` and post the same file twice; the second job finds the base in memory.

    `cold`: the base is unpacked on this disk, and neither the trainer nor the predictor has read it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with embedded.running(folder, tree=tree, **share_bases(folder)) as deployment:
        client = deployment.client(deployment.new_customer("bench"))
        return {name: _once(client, chats, name) for name in ("cold", "warm", "warm-again")} | {"goal": "warm ≤ 5 s"}


def share_bases(folder: Path) -> dict[str, str]:
    """Let the deployment in `folder` find the bases that are unpacked here already; return its settings."""
    bases = Settings().data_dir / "base-models"
    own = folder / "data" / "base-models"
    if bases.is_dir() and not own.exists():
        own.parent.mkdir(parents=True, exist_ok=True)
        own.symlink_to(bases.absolute())
    return {name: value for name, value in os.environ.items() if name in ("GRAFT_THREADS", "GRAFT_PRECISION")}


def submit(client: httpx.Client, path: Path, **form: str) -> str:
    """POST a file as a job; return the job's id."""
    made = client.post("/v1/fine_tuning/jobs", data=form, files={"file": (path.name, path.read_bytes())})
    assert made.is_success, made.text
    return str(made.json()["id"])


def wait(client: httpx.Client, job: str, ready: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Poll until a job is as asked for; return it."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        found: dict[str, Any] = client.get(f"/v1/fine_tuning/jobs/{job}").json()
        if ready(found):
            return found
        assert found["status"] != "failed", found["error"]
        time.sleep(0.05)
    raise TimeoutError


def _once(client: httpx.Client, chats: Path, name: str) -> float:
    asked = json.loads(chats.read_text("utf-8").split("\n", 1)[0])["messages"][0]["content"]
    began = time.monotonic()
    job = submit(client, chats, task="text-generation", strategy="lora", suffix=name)
    model = wait(client, job, lambda found: found["fine_tuned_model"] is not None)["fine_tuned_model"]
    body = {"model": model, "messages": [{"role": "user", "content": asked}], "max_tokens": 1}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.is_success, answer.text
    seconds = time.monotonic() - began
    # The next one is to find the trainer idle, and what is trained behind the first version is measured elsewhere.
    client.post(f"/v1/fine_tuning/jobs/{job}/cancel").raise_for_status()
    wait(client, job, lambda found: found["status"] in ENDED)
    return seconds
