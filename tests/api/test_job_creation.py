"""Jobs and the files that come along with them: what stays of a refusal or a repetition, and who waits for whom."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import event, exc, select, update

from api import job_creation
from api.application import create_app
from api.idempotency import Once
from api.job_creation import AskedJob
from api.schemas.base import Deleted
from api.schemas.job_creation import CreateJob, Method, MethodSettings
from api.uploads import Upload
from models.learning.contract.request import STRATEGIES
from models.records.clock import clock
from models.records.customers import Customer
from models.records.database import DatabaseUnavailable
from models.records.idempotency import IdempotentAnswer
from models.records.jobs import Job
from models.services import customers, files, jobs, keys
from models.services.errors import FileInUse, RateQuotaExceeded, RequestInProgress
from models.services.idempotency import IN_PROGRESS_S, IdempotencyToken
from models.services.resources import Resources, open_resources
from models.settings import Settings


@pytest.fixture
def asked(tmp_path: Path, table: str) -> AskedJob:
    """A job with all of its files."""
    path = tmp_path / "t.csv"
    path.write_text(table)
    upload = Upload(path, path.name, len(table), hashlib.sha256(table.encode()).hexdigest())
    return AskedJob(CreateJob(suffix="tickets"), upload, upload, upload)


@pytest.fixture
def lose_answers(resources: Resources) -> Iterator[Callable[[], None]]:
    """From the next transaction on that writes a job, commits arrive and their answers do not."""
    engine = resources.database.engine
    wrote_job = False

    def watch(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        nonlocal wrote_job
        wrote_job = wrote_job or statement.startswith("INSERT INTO jobs ")

    def lose(connection: Any) -> None:
        if wrote_job:
            connection.connection.dbapi_connection.commit()
            raise exc.OperationalError("COMMIT", {}, ConnectionResetError("the server went away"))

    def begin() -> None:
        event.listen(engine, "before_cursor_execute", watch)
        event.listen(engine, "commit", lose)

    yield begin
    event.remove(engine, "before_cursor_execute", watch)
    event.remove(engine, "commit", lose)


def test_a_commit_of_unknown_fate_is_told_as_such_and_keeps_the_files(
    resources: Resources, customer: Callable[..., Customer], asked: AskedJob, lose_answers: Callable[[], None]
) -> None:
    acme = customer()
    lose_answers()
    with pytest.raises(DatabaseUnavailable):
        job_creation.submit(resources, acme.id, asked, None)
    (job,) = jobs.list_page(resources, acme.id).data
    assert _files(resources, acme) == _of(job)


def test_a_request_that_takes_minutes_is_done_once(resources: Resources) -> None:
    once = Once(resources, "operator", "key", "POST /v1/files", refresh_s=0.01)
    recent = select(IdempotentAnswer.key).where(IdempotentAnswer.created_at > clock() - IN_PROGRESS_S)
    first, second = Deleted(id="file-1", object="file"), Deleted(id="file-2", object="file")

    def create() -> Deleted:
        with resources.database.transaction() as session:
            session.execute(update(IdempotentAnswer).values(created_at=clock() - IN_PROGRESS_S - 1))
        deadline, refreshed = time.monotonic() + 20, False
        while not refreshed:
            assert time.monotonic() < deadline, "nobody refreshed it"
            time.sleep(0.01)
            with resources.database.reading() as session:
                refreshed = session.scalar(recent) is not None
        with pytest.raises(RequestInProgress):
            once.answer({}, lambda: second)
        return first

    assert once.answer({}, create).body == once.answer({}, lambda: second).body


def test_a_refused_job_takes_its_files_along(
    resources: Resources, customer: Callable[..., Customer], asked: AskedJob
) -> None:
    acme = customer()
    strict = replace(resources, settings=resources.settings.model_copy(update={"max_unfinished_jobs": 1}))
    job = job_creation.submit(strict, acme.id, asked, None)
    with pytest.raises(RateQuotaExceeded):
        job_creation.submit(strict, acme.id, asked, None)
    assert _files(resources, acme) == _of(job)


def test_a_repetition_leaves_no_second_copy(
    resources: Resources, customer: Callable[..., Customer], asked: AskedJob
) -> None:
    acme = customer()
    token = IdempotencyToken("again", "a" * 64)
    first, again = (job_creation.submit(resources, acme.id, asked, token) for _ in range(2))
    assert again.id == first.id
    assert _files(resources, acme) == _of(first)
    with pytest.raises(FileInUse):
        files.delete(resources, acme.id, first.training_file_id)


def test_a_job_on_a_stored_file_does_not_wait_for_validations(
    settings_for: Callable[..., Settings], table: str
) -> None:
    settings = settings_for()
    with contextlib.closing(open_resources(settings)) as resources:
        resources.database.migrate()
        acme = customers.create(resources, name="acme")
        secret = keys.issue(resources, acme.id, name="tests").secret
    app = create_app(settings)

    async def post_while_others_validate() -> httpx.Response:
        async with app.router.lifespan_context(app), _client(app, secret) as client:
            form = {"file": ("t.csv", table)}
            stored = (await client.post("/v1/files", files=form, data={"purpose": "fine-tune"})).json()
            under_way = app.state.context.uploads
            async with contextlib.AsyncExitStack() as others:
                for _ in range(settings.uploads_per_customer):
                    await others.enter_async_context(under_way.one_more(acme.id))
                refused = await client.post("/v1/files", files=form, data={"purpose": "fine-tune"})
                assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_uploads")
                assert refused.headers["retry-after"] == "5"
                return await client.post("/v1/fine_tuning/jobs", json={"training_file": stored["id"]})

    answer = anyio.run(post_while_others_validate)
    assert answer.status_code == 200, answer.text


def _client(app: FastAPI, key: str) -> httpx.AsyncClient:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://graft", headers=headers)


def _of(job: Job) -> set[str | None]:
    return {job.training_file_id, job.validation_file_id, job.unlabeled_file_id}


def _files(resources: Resources, customer: Customer) -> set[str | None]:
    return {file.id for file in files.list_page(resources, customer.id, limit=100).data}


def test_every_strategy_may_be_a_method_with_settings_of_its_own() -> None:
    fields = Method.model_fields.items()
    own = {field.alias or name for name, field in fields if field.annotation == MethodSettings | None}
    assert own == {"supervised", "dpo", *STRATEGIES}
