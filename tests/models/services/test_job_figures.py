"""What a scrape says of the jobs."""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import update

from models.errors import JobError
from models.records.customers import Customer
from models.records.jobs import Job
from models.services import claims, job_figures, jobs
from models.services.resources import Resources
from tests.claiming import claim as claim_job

from .conftest import Bench

MakeCustomer = Callable[..., Customer]


def test_failures_are_counted_by_whose_fault_they_are(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    acme = customer("acme")
    for blame in ("user", "server", "server"):
        claim = claim_job(resources, bench.job(acme).id, "worker")
        assert claim is not None
        claims.fail(resources, claim, JobError("code", "what happened", blame=blame))
    figures = job_figures.measure(resources)
    assert figures.failed_by_blame == {"user": 1, "server": 2}
    assert (figures.by_status["failed"], figures.by_status["queued"], figures.by_status["paused"]) == (3, 0, 0)


def test_the_oldest_queued_job_is_the_one_that_waits_longest(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    assert job_figures.measure(resources).oldest_queued_s == 0.0
    acme = customer("acme")
    running, old, _ = (bench.job(acme).id for _ in range(3))
    with resources.database.transaction() as session:
        for job_id, age_s in ((running, 9_000), (old, 600)):
            session.execute(update(Job).where(Job.id == job_id).values(queued_at=time.time() - age_s))
    assert claim_job(resources, running, "worker") is not None
    assert 590 < job_figures.measure(resources).oldest_queued_s < 700


def test_a_job_that_was_paused_for_long_has_not_waited_for_a_worker(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    job = bench.job(customer("acme"))
    jobs.pause(resources, job.customer_id, job.id)
    with resources.database.transaction() as session:
        session.execute(update(Job).values(created_at=time.time() - 9_000, queued_at=time.time() - 9_000))
    jobs.resume(resources, job.customer_id, job.id)
    assert job_figures.measure(resources).oldest_queued_s < 600
