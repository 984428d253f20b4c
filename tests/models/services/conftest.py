"""The use cases on both databases, and what they need: data sets, jobs, artifacts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import event, update

from models.learning.contract.comparison import LiveComparison
from models.learning.contract.events import CurvePoint, Finished, VersionReady
from models.records.clock import clock
from models.records.customers import Customer
from models.records.files import File
from models.records.jobs import Job
from models.records.keys import ApiKey
from models.services import claims, files, jobs, keys
from models.services.claims import Claim
from models.services.jobs import JobRequest
from models.services.keys import IssuedKey
from models.services.queue import QUEUE_NAME
from models.services.resources import Resources
from tests.claiming import claim as claim_job
from tests.conftest import NAMED_DATABASE

# Where rows are locked and waited for, both databases are asked in the default run, too; of all else PostgreSQL is
# asked with the slow tests, and in CI's run on PostgreSQL.
_LOCKING = {"test_claiming", "test_claims", "test_contention", "test_idempotency", "test_quotas", "test_sweeping"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        kind = item.callspec.params.get("database_kind") if hasattr(item, "callspec") else None
        here = item.path.is_relative_to(Path(__file__).parent) and item.path.stem not in _LOCKING
        if here and kind == "postgresql" and not NAMED_DATABASE:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(params=NAMED_DATABASE or ["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """Both, or the one that the environment names."""
    return str(request.param)


@pytest.fixture
def statements(resources: Resources) -> Iterator[list[str]]:
    """What the database is told, as it is told; many rows with one statement are one."""
    told: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("BEGIN"):
            told.append(statement)

    event.listen(resources.database.engine, "before_cursor_execute", note)
    yield told
    event.remove(resources.database.engine, "before_cursor_execute", note)


@dataclass
class Bench:
    """Short ways to the states that tests begin with."""

    resources: Resources
    folder: Path
    broker: redis.Redis
    numbers: Any

    def file(self, customer: Customer, name: str = "tickets.csv", labels: tuple[str, ...] = ("card", "loan")) -> File:
        """An uploaded data set of ten rows per label."""
        path = self.folder / f"upload-{next(self.numbers)}.csv"
        rows = [f"text number {row} about {label},{label}" for label in labels for row in range(10)]
        path.write_text("\n".join(["text,label", *rows]) + "\n")
        return files.create(self.resources, customer.id, files.NewFile(path, name))

    def job(self, customer: Customer, **values: Any) -> Job:
        """A submitted job."""
        if "training_file" not in values:
            values["training_file"] = self.file(customer).id
        return jobs.submit(self.resources, customer.id, JobRequest(**values))

    def claim(self, job: Job, worker: str = "worker-1") -> Claim:
        """A claimed job."""
        claim = claim_job(self.resources, job.id, worker)
        assert claim is not None
        return claim

    def candidate(
        self, name: str = "head", *, improves: bool = True, content: str = "weights", **metrics: float
    ) -> VersionReady:
        """A trained version on the local disk."""
        folder = self.folder / f"artifact-{next(self.numbers)}"
        folder.mkdir()
        (folder / "weights.safetensors").write_text(content)
        (folder / "manifest.json").write_text(f'{{"content": "{content}"}}')
        return VersionReady(name, folder, {"score": 0.9, "baseline": 0.5, **metrics}, {"strategy": name}, improves)

    def finished(
        self, best: str = "head", comparison: LiveComparison | None = None, curve: tuple[CurvePoint, ...] = ()
    ) -> Finished:
        """The end of a run."""
        report = {"hyperparameters": {"n_epochs": 3}}
        return Finished(best, report, 20, trained_tokens=200, seconds=1.5, comparison=comparison, curve=curve)

    def succeed(self, customer: Customer, name: str = "head", *, score: float = 0.9, **values: Any) -> Job:
        """A job that has succeeded with one version."""
        claim = self.claim(self.job(customer, **values))
        claims.publish(self.resources, claim, self.candidate(name, score=score), promote=True)
        return claims.finish(self.resources, claim, self.finished(name))

    def expire(self, job_id: str) -> None:
        """Let a lease run out."""
        with self.resources.database.transaction() as session:
            session.execute(update(Job).where(Job.id == job_id).values(lease_until=clock() - 1))

    def expired_key(self, customer: Customer, name: str) -> IssuedKey:
        """A key that has ended by itself."""
        issued = keys.issue(self.resources, customer.id, name=name)
        with self.resources.database.transaction() as session:
            session.execute(update(ApiKey).where(ApiKey.id == issued.key.id).values(expires_at=1.0))
        return issued

    def age(self, job_id: str, seconds: float) -> None:
        """Let a message have been sent so long ago."""
        with self.resources.database.transaction() as session:
            session.execute(update(Job).where(Job.id == job_id).values(sent_at=clock() - seconds))

    def messages(self) -> int:
        """How many messages wait at the broker."""
        return int(self.broker.llen(QUEUE_NAME))

    def read(self, job: Job) -> Job:
        """The job as it is now."""
        return jobs.get(self.resources, job.customer_id, job.id)

    def said(self, job: Job) -> list[str]:
        """What happened to a job, oldest first."""
        return [event.message for event in jobs.events_since(self.resources, job.customer_id, job.id, 0)]


@pytest.fixture
def bench(resources: Resources, tmp_path: Path, valkey_socket: Path) -> Bench:
    """Short ways to the states that tests begin with."""
    return Bench(resources, tmp_path, redis.Redis(unix_socket_path=str(valkey_socket)), count(1))


MakeCustomer = Callable[..., Customer]
