"""A real server: uvicorn on a free port, SQLite, a directory of objects, Valkey on a unix socket."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import openai
import pytest
import torch
import typer.main
import typer.testing
import uvicorn
from fastapi import FastAPI
from sqlalchemy import Engine, text

from api.server import configure
from models.artifacts.folder import Artifact, write_artifact
from models.artifacts.manifest import Manifest
from models.artifacts.parts import HeadWeights
from models.backbones import loading, registry
from models.learning.contract.events import Finished, VersionReady
from models.services import claims
from models.services.resources import open_resources
from models.settings import Settings
from tests.claiming import claim as claim_job

# typer builds every command anew for each call of a test's, 28 ms of processor time; they do not change.
typer.testing._get_command = functools.cache(typer.main.get_command)  # type: ignore[attr-defined]

OPERATOR_KEY = "operator-key-of-the-tests-0123456789"
ROWS = [
    ("Where is my card?", "card_arrival"),
    ("My new card has not come yet", "card_arrival"),
    ("How long does the card take to arrive?", "card_arrival"),
    ("I want my money back", "refund"),
    ("Please refund the last order", "refund"),
    ("When is the refund paid out?", "refund"),
]
CSV = "text,label\n" + "".join(f"{text},{label}\n" for text, label in ROWS)


@dataclass(frozen=True)
class Tenant:
    """A customer with a key, as the tests use it."""

    id: str
    name: str
    key: str
    http: httpx.Client
    openai: openai.OpenAI


@dataclass(frozen=True)
class Server:
    """A running server and its operator."""

    url: str
    app: FastAPI
    settings: Settings
    operator: httpx.Client
    anonymous: httpx.Client

    def client(self, key: str | None) -> httpx.Client:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30)

    def sdk(self, key: str, **options: Any) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, **{"max_retries": 0, **options})

    def tenant(self, name: str) -> Tenant:
        created = self.operator.post("/v1/customers", json={"name": name})
        assert created.status_code == 200, created.text
        issued = self.operator.post(f"/v1/customers/{created.json()['id']}/keys", json={"name": "tests"})
        assert issued.status_code == 200, issued.text
        key = issued.json()["key"]
        return Tenant(created.json()["id"], name, key, self.client(key), self.sdk(key))


@contextmanager
def serve(settings: Settings) -> Iterator[Server]:
    """Run the application until the context ends."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    resources = open_resources(settings)
    resources.database.migrate()
    resources.close()
    config = configure(settings, grace_s=5)
    app: FastAPI = config.app
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    uvicorn_server = uvicorn.Server(config)
    thread = threading.Thread(target=uvicorn_server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 120
    while not uvicorn_server.started:
        assert thread.is_alive(), "the server did not start"
        assert time.monotonic() < deadline, "the server did not start in time"
        time.sleep(0.02)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with httpx.Client(base_url=url, timeout=30) as anonymous:
        operator = httpx.Client(base_url=url, headers={"authorization": f"Bearer {OPERATOR_KEY}"}, timeout=30)
        with operator:
            yield Server(url, app, settings, operator, anonymous)
    uvicorn_server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()
    listener.close()


@pytest.fixture(scope="session")
def broker_url(valkey_socket: Path) -> str:
    """The session's broker, as Celery names it."""
    return f"redis+socket://{valkey_socket}"


@pytest.fixture(scope="session")
def new_database(request: pytest.FixtureRequest) -> Callable[[], str]:
    """URLs of databases to be migrated: empty, for SQLite in the data folder, or of new databases in PostgreSQL."""
    if os.environ.get("GRAFT_TEST_DATABASE", "sqlite") == "sqlite":
        return lambda: ""
    engine: Engine = request.getfixturevalue("postgresql_server")

    def make() -> str:
        name = f"graft_api_{uuid4().hex}"
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        return engine.url.set(database=name).render_as_string(hide_password=False)

    return make


def make_settings(data_dir: Path, database_url: str, **changes: Any) -> Settings:
    """Settings of a test's own server."""
    values: dict[str, Any] = {
        "data_dir": data_dir,
        "database_url": database_url,
        "admin_key": OPERATOR_KEY,
        "upload_limit_bytes": 2_000_000,
        "body_limit_bytes": 200_000,
        "failed_logins": "100000/minute",  # all tests come from one address
        "role": "api",
        "directory_poll_s": 0.1,
        "lease_s": 120.0,  # tests train in this process, without a heartbeat
        "threads": 1,
        "log_level": "warning",
    }
    return Settings(**{**values, **changes})


@pytest.fixture(scope="session")
def server(
    tmp_path_factory: pytest.TempPathFactory, broker_url: str, new_database: Callable[[], str]
) -> Iterator[Server]:
    """A whole server, predictor included; one for all tests, which use customers of their own."""
    settings = make_settings(tmp_path_factory.mktemp("api"), new_database(), broker_url=broker_url, role="all")
    with serve(settings) as running:
        yield running


@pytest.fixture
def new_tenant(server: Server, request: pytest.FixtureRequest) -> Callable[[], Tenant]:
    """Makes customers with names of their own."""
    count = iter(range(1000))

    def make() -> Tenant:
        return server.tenant(f"t{abs(hash(request.node.nodeid)) % 10**9}-{next(count)}")

    return make


@pytest.fixture
def tenant(new_tenant: Callable[[], Tenant]) -> Tenant:
    """A customer of this test."""
    return new_tenant()


@pytest.fixture
def upload(tenant: Tenant) -> str:
    """A file of the test's customer."""
    answer = tenant.http.post("/v1/files", files={"file": ("tickets.csv", CSV)}, data={"purpose": "fine-tune"})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


@pytest.fixture
def table() -> str:
    """A small valid data set as CSV."""
    return CSV


@pytest.fixture
def settings_for(tmp_path: Path, broker_url: str, new_database: Callable[[], str]) -> Callable[..., Settings]:
    """Settings for a server of the test's own."""
    return lambda **changes: make_settings(tmp_path / "data", new_database(), **{"broker_url": broker_url, **changes})


@pytest.fixture(scope="session")
def run_server() -> Callable[[Settings], contextlib.AbstractContextManager[Server]]:
    """Runs a server of the test's own."""
    return serve


@pytest.fixture(scope="session")
def base_revision() -> str:
    """What a version must have been trained on to be served here."""
    return loading.load(registry.find(Settings(), "minilm"), device="cpu", precision="fp32", threads=1).revision


@pytest.fixture
def publish(server: Server, tenant: Tenant, publish_at: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Makes a model of the tenant's, see `publish_at`: `publish("tickets", 2)`."""
    return functools.partial(publish_at, server, tenant)


@pytest.fixture
def publish_at(tmp_path: Path, base_revision: str) -> Callable[..., dict[str, Any]]:
    """Makes a model by the worker's own calls, with heads of random weights; returns the ended job of the wire."""

    def make(
        server: Server,
        tenant: Tenant,
        suffix: str,
        versions: int = 1,
        labels: Sequence[str] = ("card_arrival", "refund"),
        wait: bool = True,
    ) -> dict[str, Any]:
        answer = tenant.http.post("/v1/files", files={"file": ("tickets.csv", CSV)}, data={"purpose": "fine-tune"})
        body = {"training_file": answer.json()["id"], "suffix": suffix}
        job = tenant.http.post("/v1/fine_tuning/jobs", json=body).json()
        resources = open_resources(server.settings)
        try:
            claim = claim_job(resources, job["id"], "test-worker")
            assert claim is not None
            for number in range(1, versions + 1):
                folder = tmp_path / job["id"] / str(number)
                write_head(folder, labels, base_revision=base_revision, seed=number)
                score = {"score": 0.5 + number / 100}
                candidate = VersionReady(
                    f"head-{number}", folder, score, {"metric": "accuracy", **score}, improves=True
                )
                claims.publish(resources, claim, candidate, promote=True)
            report = {"metric": "accuracy", "score": 0.5 + versions / 100, "versions": {"graft": "0"}}
            finished = Finished(f"head-{versions}", report, trained_rows=6, trained_tokens=60, seconds=1.0)
            claims.finish(resources, claim, finished)
        finally:
            resources.close()
        if wait:
            _wait_for_version(tenant, suffix, versions)
        ended: dict[str, Any] = tenant.http.get(f"/v1/fine_tuning/jobs/{job['id']}").json()
        return ended

    return make


def _wait_for_version(tenant: Tenant, model: str, version: int) -> None:
    deadline = time.monotonic() + 20
    while tenant.http.post(f"/v1/models/{model}/predict", json={"input": "x"}).json().get("version") != version:
        assert time.monotonic() < deadline, f"version {version} does not answer"
        time.sleep(0.02)


def write_head(folder: Path, labels: Sequence[str], *, base_revision: str, seed: int) -> None:
    """A version with a head of random weights."""
    random = torch.Generator().manual_seed(seed)
    manifest = Manifest(
        task="text-classification",
        strategy="head",
        labels=tuple(labels),
        features=("mean.6",),
        base="minilm",
        base_revision=base_revision,
    )
    weight_KF = torch.randn(len(labels), 384, generator=random)
    head = HeadWeights(weight_KF, torch.randn(len(labels), generator=random))
    write_artifact(Artifact(manifest, (head,)), folder)
