from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from sqlalchemy import select, update

from models.records.clock import clock
from models.records.customers import Customer
from models.records.idempotency import IdempotentAnswer
from models.records.jobs import Job
from models.services import idempotency, jobs
from models.services.errors import (
    IdempotencyMismatch,
    InvalidIdempotencyKey,
    RequestInProgress,
    UnknownStrategy,
)
from models.services.idempotency import IdempotencyToken, Replay
from models.services.jobs import JobRequest
from models.services.resources import Resources

from .conftest import Bench

MakeCustomer = Callable[..., Customer]
BODY, OTHER = "a" * 64, "b" * 64


def _age(resources: Resources, seconds: float) -> None:
    with resources.database.transaction() as session:
        session.execute(update(IdempotentAnswer).values(created_at=clock() - seconds))


def _wait_until_refreshed(resources: Resources) -> None:
    recent = select(IdempotentAnswer.key).where(IdempotentAnswer.created_at > clock() - idempotency.IN_PROGRESS_S)
    deadline = time.monotonic() + 20
    while True:
        with resources.database.reading() as session:
            if session.scalar(recent) is not None:
                return
        assert time.monotonic() < deadline, "nobody refreshed it"
        time.sleep(0.01)


def test_an_answer_is_replayed(resources: Resources) -> None:
    assert idempotency.begin(resources, "operator", "key", BODY) is None
    with pytest.raises(RequestInProgress) as caught:
        idempotency.begin(resources, "operator", "key", BODY)
    assert (caught.value.status, caught.value.retry_after_s) == (409, 1.0)
    idempotency.finish(resources, "operator", "key", 201, {"id": "cus_1"})
    for _ in range(2):
        assert idempotency.begin(resources, "operator", "key", BODY) == Replay(201, {"id": "cus_1"})
    with pytest.raises(IdempotencyMismatch):
        idempotency.begin(resources, "operator", "key", OTHER)
    # Another caller's key is another key.
    assert idempotency.begin(resources, "cus_2", "key", OTHER) is None


def test_what_came_to_nothing_may_be_tried_again(resources: Resources) -> None:
    idempotency.begin(resources, "operator", "key", BODY)
    idempotency.abandon(resources, "operator", "key")
    assert idempotency.begin(resources, "operator", "key", OTHER) is None
    idempotency.finish(resources, "operator", "key", 200, {})
    idempotency.abandon(resources, "operator", "key")  # too late: it has an answer
    assert idempotency.begin(resources, "operator", "key", OTHER) == Replay(200, {})


def test_a_request_that_died_is_taken_over(resources: Resources) -> None:
    idempotency.begin(resources, "operator", "key", BODY)
    _age(resources, idempotency.IN_PROGRESS_S + 1)
    assert idempotency.begin(resources, "operator", "key", BODY) is None
    with pytest.raises(RequestInProgress):
        idempotency.begin(resources, "operator", "key", BODY)


def test_a_request_that_takes_long_is_not_taken_over(resources: Resources) -> None:
    idempotency.begin(resources, "operator", "key", BODY)
    with idempotency.hold(resources, "operator", "key", refresh_s=0.01):
        for _ in range(3):
            _age(resources, idempotency.IN_PROGRESS_S + 1)
            _wait_until_refreshed(resources)
            with pytest.raises(RequestInProgress):
                idempotency.begin(resources, "operator", "key", BODY)
        idempotency.finish(resources, "operator", "key", 200, {"id": "file-1"})
        assert idempotency.begin(resources, "operator", "key", BODY) == Replay(200, {"id": "file-1"})
    # Once nobody holds it, a request without an answer is as dead as any.
    with idempotency.hold(resources, "operator", "other", refresh_s=0.01):
        idempotency.begin(resources, "operator", "other", BODY)
    _age(resources, idempotency.IN_PROGRESS_S + 1)
    assert idempotency.begin(resources, "operator", "other", BODY) is None


def test_answers_are_forgotten_after_a_day(resources: Resources) -> None:
    idempotency.begin(resources, "operator", "key", BODY)
    idempotency.finish(resources, "operator", "key", 200, {})
    _age(resources, 24 * 3600 + 1)
    assert idempotency.begin(resources, "operator", "key", OTHER) is None


@pytest.mark.parametrize("key", ["", "k" * 256, "line\nbreak", "schlüssel", "nul\0"])
def test_keys_have_a_form(resources: Resources, key: str) -> None:
    with pytest.raises(InvalidIdempotencyKey):
        idempotency.begin(resources, "operator", key, BODY)


def test_one_of_many_begins(resources: Resources) -> None:
    results: list[object] = []

    def begin() -> None:
        try:
            results.append(idempotency.begin(resources, "operator", "key", BODY))
        except RequestInProgress as error:
            results.append(error)

    threads = [threading.Thread(target=begin) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    assert sum(result is None for result in results) == 1


def test_the_same_job_sent_many_times_at_once_is_one_job(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    acme = customer()
    request = JobRequest(training_file=bench.file(acme).id)
    token = IdempotencyToken("key", BODY, render=lambda job: {"id": job.id, "status": job.status})
    results: list[Job] = []
    threads = [
        threading.Thread(target=lambda: results.append(jobs.submit(resources, acme.id, request, idempotency=token)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    assert len({job.id for job in results}) == 1
    assert len(jobs.list_page(resources, acme.id).data) == 1
    assert bench.messages() == 1
    # The stored answer is what a route replays.
    assert idempotency.begin(resources, acme.id, "key", BODY) == Replay(200, {"id": results[0].id, "status": "queued"})
    with pytest.raises(IdempotencyMismatch):
        jobs.submit(resources, acme.id, request, idempotency=IdempotencyToken("key", OTHER))


def test_job_and_answer_are_written_together(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    """A route began the request; the job's own transaction ends it. One that fails leaves the key as it was."""
    acme = customer()
    assert idempotency.begin(resources, acme.id, "key", BODY) is None
    token = IdempotencyToken("key", BODY)
    file = bench.file(acme)
    with pytest.raises(UnknownStrategy):
        jobs.submit(resources, acme.id, JobRequest(training_file=file.id, strategy="x"), idempotency=token)
    with pytest.raises(RequestInProgress):
        idempotency.begin(resources, acme.id, "key", BODY)
    job = jobs.submit(resources, acme.id, JobRequest(training_file=file.id), idempotency=token)
    assert idempotency.begin(resources, acme.id, "key", BODY) == Replay(
        200, {"object": "fine_tuning.job", "id": job.id}
    )
