"""The embedded deployment: Valkey, the API with its predictor, and workers as child processes of one launcher.

Nothing here is a stand-in: the same API, worker and broker protocol run in production, only the settings differ.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx

from deploy.local import threads
from deploy.local.children import Child
from deploy.local.errors import AddressUnusable, BrokerUnknown, ChildDied, NotReady, PortInUse
from deploy.local.folder import DataFolder
from deploy.local.valkey import Valkey
from models.settings import Settings

# The file in which a launcher that runs the queue leaves its address for others on its folder.
_BROKER_NOTE = "broker.url"

Role = Literal["all", "api", "predictor", "worker"]


@dataclass(frozen=True, slots=True)
class Plan:
    """The processes to start. `port` 0 takes any free one."""

    data: Path
    host: str = "127.0.0.1"
    port: int = 8000
    role: Role = "all"
    workers: int = 1

    @property
    def serves_http(self) -> bool:
        """Whether there is an API or a predictor to reach."""
        return self.role != "worker"

    @property
    def works(self) -> bool:
        """Whether there are workers."""
        return self.role in ("all", "worker")


class Deployment:
    """The running processes of one plan, as a context manager: `with Deployment(plan) as deployment: …`."""

    def __init__(self, plan: Plan, *, report: Callable[[str], None] = lambda _: None) -> None:
        self.plan = plan
        self.folder = DataFolder(plan.data)
        self.url = ""
        self.admin_key = ""
        # In place of a key that the operator gave: whoever looks over a shoulder or into a log has it from elsewhere.
        self.shown_admin_key = ""
        self.children: list[Child] = []
        self._report = report
        self._valkey: Valkey | None = None
        self._noted: list[int] = []  # processes that a launcher after this one would find

    def __enter__(self) -> Deployment:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, ready_timeout_s: float = 120.0) -> None:
        """Start everything in order and return when it is ready; raises LaunchError and leaves nothing running."""
        self.folder.create()  # if this fails, there is nothing to stop, and no folder to clean up in
        # Any number of single-role launchers may share a folder; a whole deployment has it for itself.
        self.folder.lock("graft", shared=self.plan.role != "all", holder=f"role {self.plan.role}")
        try:
            if count := self.folder.stop_leftovers():
                self._report(f"Stopped {count} processes that an earlier, killed launcher had left.")
            port = _reserve(self.plan.host, self.plan.port) if self.plan.serves_http else 0
            self.url = f"http://{_reachable(self.plan.host)}:{port}" if port else ""
            env = self._environment(port)
            self._start_valkey(env)
            self._migrate(env)
            self._start_children(env, port)
            if self.plan.serves_http:
                self._wait_ready(ready_timeout_s)
        except BaseException:
            self.stop()
            raise

    def supervise(self) -> None:
        """Start dead children again and show the errors in their logs; one round. No full disk ends it."""
        for child in self._all():
            for line in child.trouble():
                self._say(f"{child.name}: {line}")
            news = child.supervise()
            if news:
                self._say(news)
        pids = self._pids()
        if pids != self._noted:
            with contextlib.suppress(OSError):  # noted in a later round
                self.folder.remember(pids)
                self._noted = pids

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError):  # standard error may be a file on the disk that is full
            self._report(line)

    def stop(self) -> None:
        """Stop the front first, so that nothing new comes in; then workers; the broker last."""
        for child in self.children:
            # The API finishes its requests and flushes usage; a worker hands its job back. A job that is cut off
            # is claimed again when its lease is over.
            child.stop(grace_s=15)
        self.children = []
        if self._valkey is not None:
            (self.folder.run / _BROKER_NOTE).unlink(missing_ok=True)
            self._valkey.close()
            self._valkey = None
        self.folder.forget()
        self.folder.release()

    def _environment(self, port: int) -> dict[str, str]:
        settings = Settings()
        env = {**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
        # A folder named `api` or `worker` in the user's current folder must not be imported instead of ours.
        env["PYTHONSAFEPATH"] = "1"
        env.pop("GRAFT_ADMIN_KEY", None)  # the API reads it from a pipe; no environment has it
        env["GRAFT_DATA_DIR"] = str(self.folder.path)
        env.setdefault("GRAFT_LOG_FORMAT", "console")
        if self.plan.serves_http:
            env.update(GRAFT_HOST=self.plan.host, GRAFT_PORT=str(port), GRAFT_ROLE=self.plan.role)
        if settings.admin_key:
            self.admin_key = settings.admin_key.get_secret_value()
            self.shown_admin_key = "<the-key-you-gave>"
        elif self.plan.role in ("all", "api"):
            self.admin_key = self.shown_admin_key = self.folder.admin_key()
        return env

    def _start_valkey(self, env: dict[str, str]) -> None:
        """Start a private broker, unless the operator named one or another launcher on this folder has it."""
        note = self.folder.run / _BROKER_NOTE
        if os.environ.get("GRAFT_BROKER_URL"):
            return
        if self.plan.role in ("predictor", "worker"):
            if self.plan.role == "worker" and not note.exists():
                raise BrokerUnknown(folder=self.folder.path)
            if note.exists():
                env["GRAFT_BROKER_URL"] = note.read_text(encoding="utf-8").strip()
            return
        self.folder.lock("valkey", shared=False, holder=f"role {self.plan.role}, which runs the queue")
        self._valkey = Valkey(self.folder)
        self._valkey.start()
        self._remember()
        self._valkey.wait_ready()
        env["GRAFT_BROKER_URL"] = self._valkey.url
        note.write_text(self._valkey.url, encoding="utf-8")

    def _migrate(self, env: dict[str, str]) -> None:
        child = Child(
            "migrations",
            [sys.executable, "-m", "deploy.local.migrations"],
            env=env,
            log=self.folder.logs / "migrations.log",
        )
        try:
            child.start()
            self._remember(child)
            deadline = time.monotonic() + 300
            while (status := child.status) is None and time.monotonic() < deadline:
                time.sleep(0.02)
            if status != 0:
                raise ChildDied(name="migrations", status=status, log=child.log, tail=child.tail())
        finally:
            child.stop(grace_s=5)

    def _start_children(self, env: dict[str, str], port: int) -> None:
        threads_setting = Settings().threads
        logs, python = self.folder.logs, sys.executable
        if self.plan.serves_http:
            count = threads.share("api", workers=self.plan.workers, threads=threads_setting)
            command = [python, "-m", "api.server", "--grace", "10", "--standby"]
            api_env = {**env, **threads.environment(count)}
            told = b"\n"
            if self.admin_key and self.plan.role != "predictor":
                command.append("--admin-key-on-stdin")
                told = self.admin_key.encode() + b"\n"
            log = logs / ("api.log" if self.plan.role == "all" else f"{self.plan.role}-{port}.log")
            self.children.append(Child("api", command, env=api_env, log=log, told=told, standby=Settings().standby))
        if self.plan.works:
            count = threads.share("worker", workers=self.plan.workers, threads=threads_setting)
            for number in range(1, self.plan.workers + 1):
                name = f"worker-{number}"
                suffix = name if self.plan.role == "all" else f"{name}-{os.getpid()}"
                # What `celery -A worker.app worker` does, without its search in the current folder.
                argv = ["worker", "--pool=threads", "--concurrency=1", "-n", f"{suffix}@%h"]
                command = [python, "-c", f"from worker.app import app; app.worker_main({[*argv, '--loglevel=INFO']!r})"]
                worker_env = {**env, **threads.environment(count)}
                if first := Settings().worker_metrics_port:  # each has a port of its own
                    worker_env["GRAFT_WORKER_METRICS_PORT"] = str(first + number - 1)
                self.children.append(Child(name, command, env=worker_env, log=logs / f"{suffix}.log"))
        for child in self.children:
            child.start()
            self._remember()

    def _wait_ready(self, timeout_s: float) -> None:
        api = next(child for child in self.children if child.name == "api")
        deadline = time.monotonic() + timeout_s
        answer = "no answer"
        # trust_env: no proxy between the launcher and its own child.
        with httpx.Client(base_url=self.url, timeout=5, trust_env=False) as client:
            while time.monotonic() < deadline:
                self._check_alive()
                try:
                    response = client.get("/readyz")
                    if response.is_success:
                        return
                    answer = f"{response.status_code} {response.text[:500]}"
                except httpx.TransportError as error:
                    answer = str(error)
                time.sleep(0.05)
        raise NotReady(seconds=timeout_s, answer=answer, log=api.log, tail=api.tail())

    def _check_alive(self) -> None:
        for child in self._all():
            if (status := child.status) is not None:
                raise ChildDied(name=child.name, status=status, log=child.log, tail=child.tail())

    def _all(self) -> list[Child]:
        return [*([self._valkey.child] if self._valkey else []), *self.children]

    def _remember(self, *passing: Child) -> None:
        """Note what runs, after each start: this launcher may be killed before the next, and its successor stops it."""
        self._noted = [*self._pids(), *(pid for child in passing for pid in child.pids)]
        self.folder.remember(self._noted)

    def _pids(self) -> list[int]:
        return [pid for child in self._all() for pid in child.pids]


def _reserve(host: str, port: int) -> int:
    """Return a port that can be listened on right now; raises PortInUse before anything is started."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortInUse(host=host, port=port) from None
            raise AddressUnusable(host=host, port=port, reason=error.strerror or error) from None
        return int(probe.getsockname()[1])


def _reachable(host: str) -> str:
    """Return the address by which this machine itself reaches a listener on `host`."""
    if host in ("0.0.0.0", ""):  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host
