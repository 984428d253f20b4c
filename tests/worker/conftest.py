from __future__ import annotations

import hashlib
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from models.identifiers import new_id
from models.records.customers import Customer
from models.records.files import File
from models.records.jobs import Job
from models.records.versions import Model
from worker.job_runner import JobRunner

STAND_IN = (sys.executable, str(Path(__file__).parent / "stand_in_trainer.py"))


@pytest.fixture
def stand_in() -> tuple[str, str]:
    """The command that starts the small trainer of these tests."""
    return STAND_IN


@pytest.fixture
def until() -> Callable[..., None]:
    """Poll until a condition holds; fail at the deadline."""

    def wait(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, "timed out"
            time.sleep(0.01)

    return wait


@pytest.fixture
def submit(resources):
    """A queued job whose base model's name tells the stand-in trainer how to behave."""

    def submit(how: str) -> str:
        content = b"text,label\na,b\n"
        now = time.time()
        customer = Customer(id=new_id("cus_"), name=new_id("c").lower(), meta={}, created_at=now)
        file = File(
            id=new_id("file-"),
            customer_id=customer.id,
            filename="t.csv",
            purpose="fine-tune",
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            object_key=f"customers/{customer.id}/files/1",
            profile={"format": "csv", "columns": {"text": "text", "label": "label"}},
            created_at=now,
        )
        model = Model(
            id=new_id("mod_"),
            customer_id=customer.id,
            name="m",
            base_model=how,
            full_name=f"ft:{how}:{customer.name}:m",
            task="text-classification",
            created_at=now,
        )
        job = Job(
            id=new_id("ftjob-"),
            customer_id=customer.id,
            model_id=model.id,
            training_file_id=file.id,
            base_model=how,
            suffix="m",
            task="text-classification",
            strategy="auto",
            seed=1,
            hyperparameters={},
            meta={},
            status="queued",
            created_at=now,
        )
        resources.store.put_bytes(file.object_key, content)
        with resources.database.transaction() as session:
            for row in (customer, file, model, job):
                session.add(row)
                session.flush()
        return job.id

    return submit


@pytest.fixture
def fetch(resources):
    def fetch(job_id: str) -> Job:
        with resources.database.reading() as session:
            return session.get_one(Job, job_id)

    return fetch


@pytest.fixture
def let_go(settings, until):
    """Tell a stand-in trainer that holds to go on."""

    def let_go() -> None:
        scratch = settings.cache_dir / "scratch"
        until(lambda: list(scratch.glob("*/output")))
        for output in scratch.glob("*/output"):
            (output / "go").touch()

    return let_go


@pytest.fixture
def run_in_thread(until):
    """Run the next job in a thread; returns the thread and the list that gets the outcome."""

    def run(runner) -> tuple[threading.Thread, list[str]]:
        outcome: list[str] = []
        thread = threading.Thread(target=lambda: outcome.append(runner.run()), daemon=True)
        thread.start()
        return thread, outcome

    return run


@pytest.fixture
def runner(resources, stand_in):
    runner = JobRunner(resources, stand_in)
    runner.start()
    yield runner
    runner.close()
