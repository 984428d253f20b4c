"""What finished jobs leave for later ones: numbers, written once, by whoever holds the lease."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import select

from models.learning.contract.events import Finished
from models.learning.contract.outcomes import Outcome
from models.records.customers import Customer
from models.records.outcomes import OutcomeRecord
from models.services import claims, customers, priors, sweeping
from models.services.errors import LeaseLost
from models.services.resources import Resources

from .conftest import Bench

MakeCustomer = Callable[..., Customer]
HEAD = Outcome(
    base_revision="f00d", task="text-classification", rows=20, classes=2, rows_per_class=10.0, separability=0.8,
    head_score=0.9, depth_scores=(0.5, 0.7), candidate="head", features="last-max", regularization=0.1,
)  # fmt: skip
PARTIAL = replace(
    HEAD, candidate="partial", error_reduction=0.1, probability=0.95, epochs=4, seconds_per_row_epoch=0.01
)


def _finished(bench: Bench) -> Finished:
    return replace(bench.finished(), outcomes=(HEAD, PARTIAL))


def _rows(resources: Resources) -> list[OutcomeRecord]:
    with resources.database.reading() as session:
        return list(session.scalars(select(OutcomeRecord).order_by(OutcomeRecord.seq)))


def test_the_next_job_is_told_once(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    claim = bench.claim(bench.job(customer()))
    assert priors.fetch(resources, claim.job) == ()
    claims.publish(resources, claim, bench.candidate(), promote=True)
    for _ in range(2):  # the answer was lost, the write is repeated
        claims.finish(resources, claim, _finished(bench))
    assert priors.fetch(resources, bench.job(customer())) == (HEAD, PARTIAL)
    assert len(_rows(resources)) == 2


def test_a_lost_lease_tells_nothing(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    job = bench.job(customer())
    stale = bench.claim(job)
    claims.publish(resources, stale, bench.candidate(), promote=True)
    bench.expire(job.id)
    assert sweeping.reclaim_dead(resources) == [job.id]
    with pytest.raises(LeaseLost):
        claims.finish(resources, stale, _finished(bench))
    assert _rows(resources) == []


def test_nothing_names_the_customer(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme = customer("acme")
    job = bench.job(acme, suffix="tickets")
    claim = bench.claim(job)
    claims.publish(resources, claim, bench.candidate(), promote=True)
    claims.finish(resources, claim, _finished(bench))
    columns = OutcomeRecord.__table__.columns.keys()
    kept = json.dumps([[getattr(row, name) for name in columns] for row in _rows(resources)])
    for word in (acme.id, "acme", job.id, "tickets", "card", "loan", claim.training_file.id, claim.worker):
        assert word not in kept
    customers.delete(resources, acme.id)
    assert len(_rows(resources)) == 2


def test_the_operator_may_turn_it_off(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    claim = bench.claim(bench.job(customer()))
    claims.publish(resources, claim, bench.candidate(), promote=True)
    without = replace(resources, settings=resources.settings.model_copy(update={"experience": False}))
    claims.finish(without, claim, _finished(bench))
    assert _rows(resources) == []
    with resources.database.transaction() as session:
        session.add(OutcomeRecord(base_model="minilm", base_revision="f00d", task=HEAD.task, candidate="x", numbers={}))
    assert priors.fetch(without, claim.job) == ()


def test_only_the_newest_are_kept(
    resources: Resources, bench: Bench, customer: MakeCustomer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "KEPT", 3)
    acme = customer()
    for number in range(3):
        claim = bench.claim(bench.job(acme, suffix=f"model-{number}"))
        claims.publish(resources, claim, bench.candidate(), promote=True)
        outcomes = (replace(HEAD, rows=number), replace(PARTIAL, rows=number))
        claims.finish(resources, claim, replace(bench.finished(), outcomes=outcomes))
    assert sweeping.forget_expired(resources) == 3
    kept = [(outcome.rows, outcome.candidate) for outcome in priors.fetch(resources, claim.job)]
    assert kept == [(1, "partial"), (2, "head"), (2, "partial")]
    assert sweeping.forget_expired(resources) == 0
