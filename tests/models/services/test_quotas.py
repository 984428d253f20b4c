"""Quotas: what is refused, with which words, and that two requests cannot both take the last one."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

import pytest
from sqlalchemy import update

from models.errors import GraftError
from models.records.clock import clock
from models.records.customers import Customer
from models.records.jobs import Job
from models.services import accounts, claims, jobs, keys, quotas
from models.services.accounts import AccountChange
from models.services.errors import RateQuotaExceeded
from models.services.resources import Resources

from .conftest import Bench

MakeCustomer = Callable[..., Customer]


def limit(resources: Resources, customer: Customer, **limits: int | None) -> None:
    accounts.update(resources, customer.id, AccountChange(limits=limits))  # type: ignore[arg-type]


def used(resources: Resources, customer: Customer) -> dict[str, int]:
    return {state.name: state.used for state in quotas.measure(resources, customer.id)}


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("stored_bytes", 413),
        ("files", 403),
        ("models", 403),
        ("keys", 403),
        ("unfinished_jobs", 429),
        ("jobs_per_day", 429),
        ("training_seconds_per_month", 429),
    ],
)
def test_one_more_is_refused_and_fits_again_with_a_higher_limit(
    resources: Resources, bench: Bench, customer: MakeCustomer, name: str, status: int
) -> None:
    acme, other = customer(), customer()
    file = bench.file(acme)
    keys.issue(resources, acme.id, name="first")
    bench.succeed(acme, training_file=file.id, suffix="first")
    bench.job(acme, training_file=file.id, suffix="first")
    more: dict[str, Callable[[], object]] = {
        "stored_bytes": lambda: bench.file(acme),
        "files": lambda: bench.file(acme),
        "keys": lambda: keys.issue(resources, acme.id, name="second"),
    }
    add = more.get(name, lambda: bench.job(acme, training_file=file.id, suffix="second"))
    now = used(resources, acme)[name]
    limit(resources, acme, **{name: now})
    with pytest.raises(GraftError) as refused:
        add()
    error = refused.value
    assert (error.status, error.code) == (status, "quota_exceeded")
    assert error.details == [{"quota": name, "limit": now, "used": now}]
    assert "You exceeded your current quota" in str(error)
    assert "ask the operator" in str(error)
    assert used(resources, other)[name] == 0
    limit(resources, acme, **{name: now + 100_000})
    add()
    limit(resources, acme, **{name: None})  # the operator's default
    assert quotas.measure(resources, acme.id)[list(quotas.NAMES).index(name)].default  # type: ignore[arg-type]


def test_what_is_given_back_makes_room(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme = customer()
    key = keys.issue(resources, acme.id, name="first").key
    job = bench.job(acme)
    limit(resources, acme, keys=1, unfinished_jobs=1)
    keys.revoke(resources, acme.id, key.id)
    keys.issue(resources, acme.id, name="second")
    jobs.cancel(resources, acme.id, job.id)
    bench.job(acme)


def test_two_requests_do_not_both_take_the_last_one(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme = customer()
    limit(resources, acme, keys=3)
    refused: list[GraftError] = []

    def issue() -> None:
        try:
            keys.issue(resources, acme.id, name="one")
        except GraftError as error:
            refused.append(error)

    threads = [threading.Thread(target=issue) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [error.code for error in refused] == ["quota_exceeded"] * 5
    assert used(resources, acme)["keys"] == 3


def test_jobs_of_yesterday_do_not_count(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme = customer()
    file = bench.file(acme)
    bench.job(acme, training_file=file.id)
    limit(resources, acme, jobs_per_day=1)
    with resources.database.transaction() as session:
        session.execute(update(Job).values(created_at=clock() - 80_000))
    with pytest.raises(RateQuotaExceeded) as refused:
        bench.job(acme, training_file=file.id)
    assert refused.value.retry_after_s == pytest.approx(6_400, abs=60)
    with resources.database.transaction() as session:
        session.execute(update(Job).values(created_at=clock() - 86_500))
    bench.job(acme, training_file=file.id)


def test_accepted_jobs_fail_with_a_reason_when_the_months_training_is_used_up(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    acme, other = customer(), customer()
    first, second = bench.job(acme), bench.job(acme)
    limit(resources, acme, training_seconds_per_month=60)
    claim = bench.claim(first)
    with resources.database.transaction() as session:
        session.execute(update(Job).where(Job.id == first.id).values(claimed_at=clock() - 61))
    claims.publish(resources, claim, bench.candidate(), promote=True)
    claims.finish(resources, claim, bench.finished())
    theirs = bench.job(other)
    found = claims.claim_next(resources, "worker")
    assert found is not None
    assert found.job.id == theirs.id
    assert claims.claim_next(resources, "worker") is None
    failed = bench.read(second)
    assert failed.status == "failed"
    assert failed.error is not None
    assert (failed.error["code"], failed.error["blame"]) == ("quota_exceeded", "user")
    used_s = re.search(r"the limit is 60, and (\d+) are used", failed.error["message"])
    assert used_s is not None
    assert int(used_s[1]) >= 61  # and what this took
