"""The real thing: API, workers, trainer, Valkey and SQLite as processes of their own, with short leases."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import redis
from sqlalchemy import text

from deploy.local.folder import DataFolder
from deploy.local.valkey import Valkey
from models.records.database import Database
from models.services.queue import QUEUE_NAME, TASK_NAME
from tests.e2e.customer import Customer, ok
from tests.e2e.customer import wait_until as poll

ADMIN_KEY = "gr-admin-for-tests-0123456789abcdef"
ROOT = Path(__file__).parents[2]
WORKER = ("-m", "celery", "-A", "worker.app", "worker", "--loglevel=INFO")

_WORDS = {
    "billing": "invoice charged twice refund payment card declined receipt subscription price",
    "shipping": "parcel delivery late courier tracking address package lost arrived depot",
    "login": "password reset account locked sign code email verify username blocked",
    "bug": "crash error screen freeze button broken app update version loading",
}


def write_tickets(path: Path, rows: int, seed: int = 0) -> Path:
    """A small classification set: four classes, words that overlap a little."""
    rng = random.Random(seed)
    labels = list(_WORDS)
    lines = ["text,label"]
    for index in range(rows):
        label = labels[index % len(labels)]
        words = rng.sample(_WORDS[label].split(), 4) + rng.sample(_WORDS[rng.choice(labels)].split(), 1)
        lines.append(f"the {' '.join(words)} number {index},{label}")
    path.write_text("\n".join(lines) + "\n")
    return path


class Deployment:
    """One embedded deployment whose parts a test may kill, freeze, stop and start."""

    def __init__(self, folder: Path, database_url: str, **settings: str) -> None:
        self.folder = folder
        self.database_url = database_url
        self.data = DataFolder(folder)
        self.data.create()
        self.valkey = Valkey(self.data)
        self.workers: list[psutil.Popen] = []
        self._others: list[psutil.Popen] = []
        self._clients: list[httpx.Client] = []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GRAFT_")},
            "HF_HUB_OFFLINE": "1",
            "PYTHONUNBUFFERED": "1",
            "GRAFT_DATA_DIR": str(folder),
            "GRAFT_DATABASE_URL": database_url,
            "GRAFT_BROKER_URL": self.valkey.url,
            "GRAFT_ADMIN_KEY": ADMIN_KEY,
            "GRAFT_THREADS": "1",
            "GRAFT_LOG_FORMAT": "console",
            "GRAFT_LEASE_S": "4",
            "GRAFT_HEARTBEAT_S": "0.5",
            "GRAFT_SWEEP_S": "0.5",
            "GRAFT_RESEND_AFTER_S": "2",
            # These tests are about processes: refinement would only make them long. tests/models/learning has it.
            "GRAFT_REFINE_BUDGET_S": "1",
            # Beside other tests a humble trainer would starve.
            "GRAFT_TRAINER_NICENESS": "0",
            **settings,
        }

    def start(self, workers: int = 1) -> None:
        self.valkey.start()
        self.valkey.wait_ready()
        app = ("-m", "api.server", "--port", str(self.port))
        self._others.append(self._popen("api", *app))
        for _ in range(workers):
            self.start_worker()
        with httpx.Client(base_url=self.url, trust_env=False) as client:
            poll(lambda: self._is_ready(client), 120, "for the API")

    def start_worker(self, **env: str) -> psutil.Popen:
        number = len(self.workers) + 1
        worker = self._popen(f"worker-{number}", *WORKER, "-n", f"w{number}@%h", **env)
        self.workers.append(worker)
        return worker

    def trainer(self, worker: psutil.Popen | None = None) -> psutil.Process | None:
        """The trainer process of a worker, if it lives."""
        worker = worker or self.workers[-1]
        with contextlib.suppress(psutil.Error):
            for child in worker.children():
                if "worker.trainer" in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                    return child
        return None

    def broker(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.valkey.socket))

    def send(self, job_id: str) -> None:
        """Send one more message for a job."""
        from celery import Celery

        app = Celery(broker=self.valkey.url, set_as_current=False)
        app.send_task(TASK_NAME, kwargs={"job_id": job_id}, queue=QUEUE_NAME)
        app.close()

    def rows(self, query: str, job_id: str) -> list[tuple[Any, ...]]:
        """What the database holds of a job, `:job_id` in the query."""
        database = Database(self.database_url)
        try:
            with database.reading() as session:
                return [tuple(row) for row in session.execute(text(query), {"job_id": job_id})]
        finally:
            database.close()

    def customer(self, name: str) -> Customer:
        """A new customer with a key."""
        with httpx.Client(
            base_url=self.url, headers={"authorization": f"Bearer {ADMIN_KEY}"}, trust_env=False
        ) as admin:
            made = ok(admin.post("/v1/customers", json={"name": name}))
            key = ok(admin.post(f"/v1/customers/{made['id']}/keys", json={"name": "test"}))["key"]
        headers = {"authorization": f"Bearer {key}"}
        client = httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)
        self._clients.append(client)
        return Customer(self, made["id"], client)

    def write_tickets(self, rows: int) -> Path:
        path = self.folder / f"tickets-{rows}.csv"
        return path if path.exists() else write_tickets(path, rows)

    def versions(self, job_id: str) -> list[str]:
        """The candidates that were published, once for every time."""
        rows = self.rows("SELECT candidate FROM model_versions WHERE job_id = :job_id", job_id)
        return sorted(row[0] for row in rows)

    def bills(self, job_id: str) -> int:
        """How often the job was billed."""
        return len(self.rows("SELECT id FROM usage_records WHERE job_id = :job_id", job_id))

    def log(self, name: str) -> str:
        return (self.folder / "logs" / f"{name}.log").read_text(errors="replace")

    def close(self) -> None:
        """Kill everything, the descendants that a killed parent left behind too."""
        for client in self._clients:
            client.close()
        processes = [*self.workers, *self._others]
        family = []
        for process in processes:
            with contextlib.suppress(psutil.Error):
                family += [process, *process.children(recursive=True)]
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(family, timeout=10)
        self.valkey.close()

    def _popen(self, name: str, *arguments: str, **env: str) -> psutil.Popen:
        with (self.folder / "logs" / f"{name}.log").open("ab") as log:
            return psutil.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env={**self.env, **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _is_ready(self, client: httpx.Client) -> bool:
        assert self._others[0].poll() is None, self.log("api")
        try:
            return client.get("/readyz").is_success
        except httpx.TransportError:
            return False


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    """Poll until a condition holds and return its value; fail at the deadline."""
    return poll


@pytest.fixture
def deploy(database_url: str) -> Iterator[Callable[..., Deployment]]:
    """Start deployments with settings of their own; show their logs when the test fails."""
    started: list[Deployment] = []

    def start(workers: int = 1, **settings: str) -> Deployment:
        # A short path: a unix socket's has at most 107 bytes.
        deployment = Deployment(Path(tempfile.mkdtemp(prefix="graft-", dir="/tmp")), database_url, **settings)
        started.append(deployment)
        deployment.start(workers)
        return deployment

    yield start
    for deployment in started:
        for log in sorted((deployment.folder / "logs").glob("*.log")):
            print(f"----- {log.name}\n{log.read_text(errors='replace')[-6000:]}")  # noqa: T201  # pytest shows it on failure
        deployment.close()
        shutil.rmtree(deployment.folder, ignore_errors=True)


@pytest.fixture
def deployment(deploy: Callable[..., Deployment]) -> Deployment:
    """One deployment with one worker."""
    return deploy()


@pytest.fixture
def tickets(tmp_path: Path) -> Path:
    """A quick data set."""
    return write_tickets(tmp_path / "tickets.csv", 120)
