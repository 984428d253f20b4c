"""Jobs that their customers cancel, pause and resume."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from models.records.customers import Customer
from models.services import claims, jobs
from models.services.errors import (
    JobEnded,
    JobNotPaused,
)
from models.services.resources import Resources

from .conftest import Bench

MakeCustomer = Callable[..., Customer]


def test_cancel(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme = customer()
    queued = bench.job(acme)
    for _ in range(2):
        assert jobs.cancel(resources, acme.id, queued.id).status == "cancelled"
    assert bench.read(queued).finished_at is not None
    assert claims.claim_next(resources, "worker") is None

    paused = bench.job(acme)
    jobs.pause(resources, acme.id, paused.id)
    assert jobs.cancel(resources, acme.id, paused.id).status == "cancelled"

    claim = bench.claim(bench.job(acme))
    job = jobs.cancel(resources, acme.id, claim.job.id)
    assert (job.status, job.stop_requested) == ("running", "cancel")
    assert claims.heartbeat(resources, claim) == "cancel"
    assert claims.release(resources, claim, to="cancelled").status == "cancelled"

    done = bench.succeed(acme)
    with pytest.raises(JobEnded, match="has already succeeded") as caught:
        jobs.cancel(resources, acme.id, done.id)
    assert caught.value.status == 400


def test_pause_and_resume(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme = customer()
    job = bench.job(acme)
    with pytest.raises(JobNotPaused, match="is queued"):
        jobs.resume(resources, acme.id, job.id)
    for _ in range(2):
        assert jobs.pause(resources, acme.id, job.id).status == "paused"
    assert claims.claim_next(resources, "worker") is None
    assert jobs.resume(resources, acme.id, job.id).status == "queued"
    assert bench.messages() == 2

    claim = bench.claim(job)
    jobs.pause(resources, acme.id, job.id)
    assert claims.heartbeat(resources, claim) == "pause"
    assert claims.release(resources, claim, to="paused").status == "paused"
    jobs.resume(resources, acme.id, job.id)
    again = bench.claim(job)
    assert again.attempt == 2
    # Cancelling beats pausing.
    jobs.pause(resources, acme.id, job.id)
    jobs.cancel(resources, acme.id, job.id)
    jobs.pause(resources, acme.id, job.id)
    assert claims.release(resources, again, to="paused").status == "cancelled"
    with pytest.raises(JobEnded):
        jobs.resume(resources, acme.id, job.id)
