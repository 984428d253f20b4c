"""An embedded deployment for a benchmark: `graft up` in a folder of its own, driven from outside like by a user."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx
from openai import OpenAI


@dataclass(frozen=True)
class Embedded:
    """A running deployment."""

    url: str
    admin_key: str
    pid: int  # of the launcher

    def new_customer(self, name: str) -> str:
        """A customer's API key."""
        with self.operator() as operator:
            customer = operator.post("/v1/customers", json={"name": name}).raise_for_status().json()
            key = (
                operator.post(f"/v1/customers/{customer['id']}/keys", json={"name": "bench"}).raise_for_status().json()
            )
        return str(key["key"])

    def operator(self) -> httpx.Client:
        """A client with the operator's key."""
        return self.client(self.admin_key)

    def client(self, key: str) -> httpx.Client:
        """A plain HTTP client."""
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=120, trust_env=False)

    def openai(self, key: str) -> OpenAI:
        """The official SDK, with nothing changed but address and key."""
        return OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0)


@contextlib.contextmanager
def running(
    folder: Path,
    *options: str,
    tree: Path | None = None,
    within: Callable[[list[str]], list[str]] = list,
    **settings: str,
) -> Iterator[Embedded]:
    """Start `graft up` with these options on a free port, wait until it is ready, stop it at the end.

    `tree`: of another checkout; `within` makes the command that runs the command.
    """
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GRAFT_")},
        "XDG_CONFIG_HOME": str(folder / "config"),
        "HF_HUB_OFFLINE": "1",
        "GRAFT_RATE_LIMIT": "10000000/minute",
        **({"PYTHONPATH": str(tree)} if tree else {}),
        **settings,
    }
    command = [sys.executable, "-m", "deploy.cli.main", "up", "--port", "0", "--data", str(folder / "data"), *options]
    process = subprocess.Popen(
        within(command), env=environment, cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if found := re.search(r"export GRAFT_SERVER=(\S+) GRAFT_ADMIN_KEY=(\S+)", line):
                # A full pipe would stop the launcher.
                threading.Thread(target=_drain, args=(process.stdout, folder / "launcher.log"), daemon=True).start()
                yield Embedded(found[1], found[2], process.pid)
                return
        raise RuntimeError("graft up ended: " + "".join(lines))
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def _drain(lines: IO[str], log: Path) -> None:
    with log.open("w", buffering=1) as file:
        for line in lines:
            file.write(line)
