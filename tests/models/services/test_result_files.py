"""The loss curve that a job leaves as a file: what is in it, whose it is, and when it goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from models.errors import NotFound
from models.learning.contract.events import CurvePoint
from models.records.customers import Customer
from models.services import accounts, claims, customers, files, quotas, sweeping
from models.services.accounts import AccountChange
from models.services.errors import LeaseLost, UnusableFile
from models.services.resources import Resources

from .conftest import Bench

MakeCustomer = Callable[..., Customer]

CURVE = (CurvePoint(1, 1.5234567, 0.25), CurvePoint(2, 0.5, 0.75, 0.625, 0.5))
CSV = b"step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,1.52346,0.25,,\n2,0.5,0.75,0.625,0.5\n"


def _results(resources: Resources, customer_id: str) -> list[str]:
    """The keys of the customer's files in the store."""
    return [key for key in resources.store.list(f"customers/{customer_id}/") if "/files/" in key]


def test_a_finished_job_leaves_its_loss_curve(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme = customer("acme")
    job = bench.job(acme)
    claim = bench.claim(job)
    claims.publish(resources, claim, bench.candidate(), promote=True)
    for _ in range(3):  # the answer was lost, and the worker tries again
        done = claims.finish(resources, claim, bench.finished(curve=CURVE))
    assert done.result_file_id is not None
    file = files.get(resources, acme.id, done.result_file_id)
    with files.open_content(resources, acme.id, file.id) as content:
        assert content.read() == CSV
    assert (file.purpose, file.filename, file.bytes) == ("fine-tune-results", "step_metrics.csv", len(CSV))
    assert len(_results(resources, acme.id)) == 2  # and the training file
    with pytest.raises(NotFound):
        files.get(resources, customer("other").id, file.id)
    for name in ("training_file", "validation_file"):
        with pytest.raises(UnusableFile, match="loss curve"):
            bench.job(acme, **{name: file.id})


def test_it_goes_when_it_is_deleted_and_with_its_customer(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    acme = customer("acme")
    claim = bench.claim(bench.job(acme))
    claims.publish(resources, claim, bench.candidate(), promote=True)
    done = claims.finish(resources, claim, bench.finished(curve=CURVE))
    assert done.result_file_id is not None
    files.delete(resources, acme.id, done.result_file_id)
    assert bench.read(done).result_file_id is None
    assert len(_results(resources, acme.id)) == 1
    claim = bench.claim(bench.job(acme))
    claims.publish(resources, claim, bench.candidate(), promote=True)
    claims.finish(resources, claim, bench.finished(curve=CURVE))
    customers.delete(resources, acme.id)
    assert _results(resources, acme.id) == []


def test_quotas_count_its_bytes_and_refuse_no_job_for_it(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    acme = customer("acme")
    claim = bench.claim(bench.job(acme))
    claims.publish(resources, claim, bench.candidate(), promote=True)
    before = {quota.name: quota.used for quota in quotas.measure(resources, acme.id)}
    limits: Any = {"files": 1, "stored_bytes": before["stored_bytes"]}
    accounts.update(resources, acme.id, AccountChange(limits=limits))
    assert claims.finish(resources, claim, bench.finished(curve=CURVE)).status == "succeeded"
    after = {quota.name: quota.used for quota in quotas.measure(resources, acme.id)}
    assert (after["files"], after["stored_bytes"]) == (before["files"], before["stored_bytes"] + len(CSV))


def test_an_attempt_that_lost_its_lease_leaves_nothing(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    acme = customer("acme")
    job = bench.job(acme)
    stale = bench.claim(job, "frozen")
    bench.expire(job.id)
    sweeping.reclaim_dead(resources)
    with pytest.raises(LeaseLost):
        claims.finish(resources, stale, bench.finished(curve=CURVE))
    assert len(_results(resources, acme.id)) == 1
