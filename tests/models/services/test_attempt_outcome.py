"""Attempts that end without a result: failed, retried, released."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from models.errors import JobError
from models.records.customers import Customer
from models.services import claims, jobs, usage
from models.services.resources import Resources

from .conftest import Bench

MakeCustomer = Callable[..., Customer]


def test_failures_are_not_billed(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme = customer()
    claim = bench.claim(bench.job(acme))
    error = JobError("one_class", "All rows carry the same label.", "user", "training_file")
    job = claims.fail(resources, claim, error)
    assert (job.status, job.error, job.lease_until) == (
        "failed",
        {
            "code": "one_class",
            "message": "All rows carry the same label.",
            "blame": "user",
            "param": "training_file",
        },
        None,
    )
    assert job.finished_at is not None
    assert bench.said(job)[-1] == "All rows carry the same label."
    assert usage.list_page(resources, acme.id, 0, 1e11).data == []


def test_messages_may_quote_anything(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    claim = bench.claim(bench.job(customer()))
    claims.heartbeat(resources, claim, events=[("info", "message", "label 'a\0b\ud800'", {"loss": float("inf")})])
    assert bench.said(claim.job)[-1] == "label 'a\ufffdb?'"
    job = claims.fail(resources, claim, JobError("x", "bad '\0\ud800'", "user"))
    assert job.error is not None
    assert job.error["message"] == "bad '\ufffd?'"


def test_retries_end(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    job = bench.job(customer())
    for attempt in (1, 2, 3):
        claim = bench.claim(job)
        assert claim.attempt == attempt
        after = claims.retry(resources, claim, JobError("trainer_died", "The trainer was killed."))
        assert after.status == ("queued" if attempt < 3 else "failed")
    assert after.error is not None
    assert (after.error["code"], after.error["blame"]) == ("trainer_died", "server")
    assert "Gave up after 3 attempts" in after.error["message"]
    assert claims.claim_next(resources, "worker") is None
    assert usage.list_page(resources, job.customer_id, 0, 1e11).data == []


def test_a_worker_that_shuts_down_does_not_use_up_attempts(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    job = bench.job(customer())
    for _ in range(5):
        assert claims.release(resources, bench.claim(job), to="queued").status == "queued"
    assert claims.retry(resources, bench.claim(job), JobError("x", "x")).status == "queued"
    assert bench.read(job).attempt == 6
    assert bench.messages() == 7


@pytest.mark.parametrize("end", ["release", "retry"])
def test_a_customers_wish_is_honoured_however_the_attempt_ends(
    resources: Resources, bench: Bench, customer: MakeCustomer, end: str
) -> None:
    acme = customer()
    for wish, heard, outcome in ((jobs.cancel, "cancel", "cancelled"), (jobs.pause, "pause", "paused")):
        claim = bench.claim(bench.job(acme))
        wish(resources, acme.id, claim.job.id)
        assert claims.heartbeat(resources, claim) == heard
        if end == "release":
            done = claims.release(resources, claim, to="queued")
        else:
            done = claims.retry(resources, claim, JobError("x", "x"))
        assert (done.status, done.stop_requested) == (outcome, None)


def test_a_pause_that_was_taken_back_in_the_last_moment(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    acme = customer()
    claim = bench.claim(bench.job(acme))
    jobs.pause(resources, acme.id, claim.job.id)
    assert claims.heartbeat(resources, claim) == "pause"
    jobs.resume(resources, acme.id, claim.job.id)
    assert claims.release(resources, claim, to="paused").status == "queued"
