"""A scaled-out Graft: one API, two predictors and a worker as processes of their own, and proxies in front of them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

_ROOT = Path(__file__).resolve().parents[2]
_PROXY = _ROOT / "deploy" / "proxy"
ADMIN_KEY = "gr-admin-for-tests-0123456789abcdef"
PROXIES = ("nginx", "envoy")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def _wait_until(condition: Callable[[], Any], timeout_s: float = 60.0, what: str = "") -> Any:
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"timed out waiting {what}"
        time.sleep(0.02)
    return value


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{url}/readyz", timeout=5, trust_env=False).is_success
    return False


def _tool(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if not found:
        pytest.skip(f"{name} is not installed")
    return found


class Process:
    """A process in a session of its own, with a log; killed with everything below it."""

    def __init__(self, log: Path, command: list[str], **options: Any) -> None:
        self.log = log
        with log.open("ab") as file:
            self._process = psutil.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True, **options
            )

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def terminate(self) -> None:
        """Ask it to stop, and wait until it has."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)

    def kill(self) -> None:
        """The whole family at once; the parent first, so that it cannot start its children again."""
        family = []
        with contextlib.suppress(psutil.Error):
            family = [self._process, *self._process.children(recursive=True)]
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(family, timeout=10)


class Proxy(Process):
    """nginx or Envoy with the configuration that the project ships; only addresses are changed."""

    def __init__(self, kind: str, api: str, predictors: list[str]) -> None:
        self.kind = kind
        self.folder = Path(tempfile.mkdtemp(prefix=f"graft-{kind}-", dir="/tmp"))
        self.url = f"http://127.0.0.1:{_free_port()}"
        options: dict[str, Any] = {}
        if kind == "nginx":
            command = self._nginx(api, predictors)
            if os.geteuid() == 0:
                # As whoever may do nothing: the proxy needs no root.
                shutil.chown(self.folder, "nobody")
                options = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        else:
            command = self._envoy(api, predictors)
        super().__init__(self.folder / "output.log", command, **options)

    @property
    def logs(self) -> str:
        """Everything that it wrote down."""
        return "".join(path.read_text(errors="replace") for path in self.folder.glob("*.log"))

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _nginx(self, api: str, predictors: list[str]) -> list[str]:
        text = (_PROXY / "graft.conf").read_text()
        assert len(predictors) == 2
        changes = {
            "listen 8080": f"listen 127.0.0.1:{_port(self.url)}",
            "server 127.0.0.1:8000": f"server 127.0.0.1:{_port(api)}",
            "server 127.0.0.1:8001": f"server 127.0.0.1:{_port(predictors[0])}",
            "server 127.0.0.1:8002": f"server 127.0.0.1:{_port(predictors[1])}",
        }
        for before, after in changes.items():
            assert text.count(before) == 1, before
            text = text.replace(before, after)
        (self.folder / "graft.conf").write_text(text)
        main = shutil.copy(_PROXY / "nginx.conf", self.folder)
        return [_tool("nginx"), "-e", "stderr", "-p", f"{self.folder}/", "-c", str(main)]

    def _envoy(self, api: str, predictors: list[str]) -> list[str]:
        program = _tool("envoy")
        whole = yaml.safe_load((_PROXY / "envoy.yaml").read_text())
        config = whole["static_resources"]
        config["listeners"][0]["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": _port(self.url)}
        for cluster, urls in zip(config["clusters"], ([api], predictors), strict=True):
            endpoints = [
                {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": _port(url)}}}}
                for url in urls
            ]
            cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": endpoints}]
        path = self.folder / "envoy.yaml"
        path.write_text(yaml.safe_dump(whole))
        quiet = ["--log-level", "warning", "--concurrency", "1", "--use-dynamic-base-id"]
        return [program, "--config-path", str(path), *quiet]


class Part(Process):
    """One `graft up` with one role."""

    def __init__(self, folder: Path, env: dict[str, str], role: str, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "deploy.cli.main", "up", "--data", str(folder), "--role", role]
        command += [] if role == "worker" else ["--port", str(port)]
        super().__init__(folder / "logs" / f"up-{role}-{port}.log", command, cwd=_ROOT, env=env)

    def wait(self) -> None:
        """Until it is ready to answer."""

        def ready() -> bool:
            assert self.runs, self.log.read_text(errors="replace")
            return _answers(self.url)

        _wait_until(ready, 180, f"for {self.url}")

    def served(self, route: str) -> float:
        """How many requests to a route it has answered, by its own metrics."""
        text = httpx.get(f"{self.url}/metrics", timeout=30, trust_env=False).text
        pattern = rf'^graft_http_requests_total{{[^}}]*route="{re.escape(route)}"[^}}]*}} (\S+)$'
        return sum(float(number) for number in re.findall(pattern, text, re.MULTILINE))


class ScaledOut:
    """The parts of one deployment, which share a data folder."""

    def __init__(self) -> None:
        # A short path: a unix socket's has at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="graft-", dir="/tmp"))
        (self.folder / "logs").mkdir()
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GRAFT_")},
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "GRAFT_THREADS": "1",
            "GRAFT_ADMIN_KEY": ADMIN_KEY,
            "GRAFT_RATE_LIMIT": "1000000/minute",  # one customer asks without a pause
        }
        self.api = self._start("api", _free_port())
        self.predictors: list[Part] = []
        self._worker: Part | None = None
        self._proxies: dict[str, Proxy] = {}
        self._clients: list[httpx.Client] = []

    def start(self) -> None:
        self.api.wait()  # it runs the queue and migrates
        self.predictors = [self._start("predictor", _free_port()) for _ in range(2)]
        self._worker = self._start("worker", 0)
        for predictor in self.predictors:
            predictor.wait()

    def start_again(self, number: int) -> Part:
        """A predictor that was stopped, at its old address."""
        part = self._start("predictor", _port(self.predictors[number].url))
        self.predictors[number] = part
        part.wait()
        return part

    def proxy(self, kind: str) -> Proxy:
        """A proxy in front of it all."""
        if kind not in self._proxies:
            proxy = Proxy(kind, self.api.url, [predictor.url for predictor in self.predictors])
            self._proxies[kind] = proxy
            _wait_until(lambda: _answers(proxy.url), 30, f"for {kind}")
        return self._proxies[kind]

    def client(self, url: str, key: str) -> httpx.Client:
        headers = {"authorization": f"Bearer {key}"}
        client = httpx.Client(base_url=url, headers=headers, timeout=120, trust_env=False)
        self._clients.append(client)
        return client

    def operator(self, url: str) -> httpx.Client:
        return self.client(url, ADMIN_KEY)

    def close(self) -> None:
        for client in self._clients:
            client.close()
        for part in [*self._proxies.values(), *self.predictors, self._worker, self.api]:
            if part is not None:
                part.kill()
        for proxy in self._proxies.values():
            proxy.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, role: str, port: int) -> Part:
        return Part(self.folder, self.env, role, port)


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    """Poll until a condition holds and return its value; fail at the deadline."""
    return _wait_until


@pytest.fixture
def tool() -> Callable[[str], str]:
    """A program's path; the test is skipped without it."""
    return _tool


@pytest.fixture(params=PROXIES)
def stranded(request: pytest.FixtureRequest) -> Iterator[Proxy]:
    """A proxy with nobody behind it."""
    proxy = Proxy(request.param, _dead(), [_dead(), _dead()])

    def listens() -> bool:
        assert proxy.runs, proxy.logs
        with contextlib.suppress(httpx.TransportError):
            return bool(httpx.get(proxy.url, timeout=5, trust_env=False).status_code)
        return False

    try:
        _wait_until(listens, 30, f"for {proxy.kind}")
        yield proxy
    finally:
        proxy.close()


def _dead() -> str:
    return f"http://127.0.0.1:{_free_port()}"


@pytest.fixture(scope="module")
def scaled() -> Iterator[ScaledOut]:
    """A scaled-out Graft for all tests of a module; its logs are shown when one fails."""
    deployment = ScaledOut()
    try:
        deployment.start()
        yield deployment
    finally:
        for log in sorted((deployment.folder / "logs").glob("*.log")):
            print(f"----- {log.name}\n{log.read_text(errors='replace')[-3000:]}")  # noqa: T201  # pytest shows it on failure
        deployment.close()


@pytest.fixture(params=PROXIES)
def proxy(request: pytest.FixtureRequest, scaled: ScaledOut) -> Proxy:
    """Each of the proxies before it."""
    return scaled.proxy(request.param)
