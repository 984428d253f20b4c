"""Seconds from the POST of a job to the first answer of its model, over HTTP, with a server of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

_DEADLINE_S = 600.0


def first_answer(chats: Path, folder: Path) -> dict[str, Any]:
    """Start `graft up`, post the same file twice; the second job finds the base warm."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = Path(os.environ.get("GRAFT_DATA_DIR", folder / "data"))
    environment = {**os.environ, "GRAFT_DATA_DIR": str(folder / "server"), "GRAFT_ADMIN_KEY": "a" * 40}
    bases = data / "base-models"
    if bases.is_dir():
        (folder / "server").mkdir(exist_ok=True)
        (folder / "server" / "base-models").symlink_to(bases)
    command = [sys.executable, "-m", "deploy.cli.main", "up", "--port", str(port)]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(lambda: httpx.get(f"{url}/readyz", timeout=2).status_code == 200)
        admin = {"Authorization": f"Bearer {'a' * 40}"}
        httpx.post(f"{url}/v1/customers", headers=admin, json={"name": "bench"}, timeout=30).raise_for_status()
        made = httpx.post(f"{url}/v1/customers/bench/keys", headers=admin, json={"name": "bench"}, timeout=30)
        made.raise_for_status()
        key = re.search(r'"(sk-[^"]+|graft[^"]+)"', made.text)
        secret = made.json().get("secret") or made.json().get("key") or (key.group(1) if key else "")
        client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {secret}"}, timeout=120)
        return {name: _once(client, chats, name) for name in ("cold", "warm")} | {"goal": "warm ≤ 5 s"}
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def _once(client: httpx.Client, chats: Path, name: str) -> float:
    asked = json.loads(chats.read_text("utf-8").split("\n", 1)[0])["messages"][0]["content"]
    began = time.monotonic()
    form = {"task": "text-generation", "strategy": "few-shot", "suffix": name}
    made = client.post("/v1/fine_tuning/jobs", data=form, files={"file": (chats.name, chats.read_bytes())})
    made.raise_for_status()
    job = made.json()["id"]
    _wait(lambda: client.get(f"/v1/fine_tuning/jobs/{job}").json()["fine_tuned_model"] is not None)
    model = client.get(f"/v1/fine_tuning/jobs/{job}").json()["fine_tuned_model"]
    body = {"model": model, "messages": [{"role": "user", "content": asked}], "max_tokens": 1}
    client.post("/v1/chat/completions", json=body).raise_for_status()
    return time.monotonic() - began


def _wait(ready: Any) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline:
        try:
            if ready():
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise TimeoutError
