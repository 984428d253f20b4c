"""Suspension: nothing of the customer is trained, and everything goes on from where it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from models.errors import JobError
from models.records.customers import Customer
from models.services import accounts, audit, claims, job_figures, jobs, keys, sweeping
from models.services.access.errors import CustomerSuspended
from models.services.accounts import AccountChange
from models.services.resources import Resources

from .conftest import Bench

MakeCustomer = Callable[..., Customer]


def suspend(resources: Resources, customer: Customer) -> None:
    accounts.update(resources, customer.id, AccountChange(suspended=True))


def resume(resources: Resources, customer: Customer) -> None:
    accounts.update(resources, customer.id, AccountChange(suspended=False))


def test_jobs_are_paused_with_their_customer_and_queued_again_with_it(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    acme, other = customer(), customer()
    running, own_pause, queued, elsewhere = bench.job(acme), bench.job(acme), bench.job(acme), bench.job(other)
    claim = bench.claim(running)
    jobs.pause(resources, acme.id, own_pause.id)
    for _ in range(2):
        suspend(resources, acme)
    assert claims.heartbeat(resources, claim) == "pause"
    claims.release(resources, claim, to="paused")
    assert [bench.read(job).status for job in (running, own_pause, queued)] == ["paused"] * 3
    # Nothing of it waits, so no worker is started and no message sent for it.
    assert job_figures.measure(resources).by_status["queued"] == 1
    found = claims.claim_next(resources, "worker")
    assert found is not None
    assert found.job.id == elsewhere.id
    assert claims.claim_next(resources, "worker") is None
    bench.broker.flushall()
    for _ in range(2):
        resume(resources, acme)
    assert [bench.read(job).status for job in (running, own_pause, queued)] == ["queued", "paused", "queued"]
    assert bench.messages() == 2
    again = claims.claim_next(resources, "worker")
    assert again is not None
    assert (again.job.id, again.attempt) == (running.id, 2)


@pytest.mark.parametrize("end", ["shut down", "crash", "lost"])
def test_a_running_job_is_paused_however_its_attempt_ends(
    resources: Resources, bench: Bench, customer: MakeCustomer, end: str
) -> None:
    acme = customer()
    claim = bench.claim(bench.job(acme))
    suspend(resources, acme)
    if end == "shut down":
        claims.release(resources, claim, to="queued")
    elif end == "crash":
        claims.retry(resources, claim, JobError("trainer_died", "Killed."))
    else:
        bench.expire(claim.job.id)
        sweeping.reclaim_dead(resources)
    assert bench.read(claim.job).status == "paused"
    resume(resources, acme)
    assert bench.read(claim.job).status == "queued"


def test_a_suspension_that_is_taken_back_before_the_worker_hears_of_it(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    acme = customer()
    claim = bench.claim(bench.job(acme))
    suspend(resources, acme)
    resume(resources, acme)
    assert claims.heartbeat(resources, claim) is None


def test_a_wish_of_the_customers_own_outlives_the_suspension(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    acme = customer()
    paused, cancelled = bench.claim(bench.job(acme)), bench.claim(bench.job(acme))
    jobs.pause(resources, acme.id, paused.job.id)
    jobs.cancel(resources, acme.id, cancelled.job.id)
    suspend(resources, acme)
    resume(resources, acme)
    assert [claims.heartbeat(resources, claim) for claim in (paused, cancelled)] == ["pause", "cancel"]


def test_a_job_that_was_admitted_before_the_suspension_is_refused(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    acme = customer()
    file = bench.file(acme)
    suspend(resources, acme)
    with pytest.raises(CustomerSuspended):
        bench.job(acme, training_file=file.id)


def test_a_resumption_that_was_admitted_before_the_suspension_is_refused(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    acme = customer()
    claim, paused = bench.claim(bench.job(acme)), bench.job(acme)
    jobs.pause(resources, acme.id, paused.id)
    suspend(resources, acme)
    for job in (claim.job, paused):
        with pytest.raises(CustomerSuspended):
            jobs.resume(resources, acme.id, job.id)
    assert claims.heartbeat(resources, claim) == "pause"
    assert bench.read(paused).status == "paused"


def test_what_the_operator_does_is_in_the_audit_log(resources: Resources, customer: MakeCustomer) -> None:
    acme = customer()
    keys.issue(resources, acme.id, name="production")
    accounts.update(resources, acme.id, AccountChange(limits={"files": 3}))
    suspend(resources, acme)
    resume(resources, acme)
    found = audit.list_page(resources).data
    assert [event.action for event in found[:3]] == ["customer.resumed", "customer.suspended", "customer.limited"]
    assert found[2].after == {"files": 3}
