"""The claim that picks the next job: fair, in order, and each job once, whoever else claims."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import datetime

import pytest
from sqlalchemy import select, update

from models.errors import JobError
from models.records import training_shares
from models.records.clock import clock
from models.records.customers import Customer
from models.records.jobs import Job
from models.records.training_shares import TrainingShare
from models.services import claims, jobs, sweeping
from models.services.resources import Resources

from .conftest import Bench

MakeCustomer = Callable[..., Customer]


def _take(resources: Resources, bench: Bench) -> claims.Claim:
    """Claim the next job and complete it."""
    claim = claims.claim_next(resources, "worker")
    assert claim is not None
    return _complete(resources, bench, claim)


def _complete(resources: Resources, bench: Bench, claim: claims.Claim) -> claims.Claim:
    claims.publish(resources, claim, bench.candidate(), promote=True)
    claims.finish(resources, claim, bench.finished())
    return claim


def _share(resources: Resources, customer_id: str) -> TrainingShare | None:
    with resources.database.reading() as session:
        return session.get(TrainingShare, customer_id)


def test_a_newcomer_is_next_and_then_customers_alternate(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    many, few = customer("many"), customer("few")
    file = bench.file(many)
    backlog = [bench.job(many, training_file=file.id) for _ in range(6)]
    first = claims.claim_next(resources, "worker")
    assert first is not None
    others = [bench.job(few, training_file=bench.file(few).id) for _ in range(2)]
    assert _complete(resources, bench, first).job.id == backlog[0].id
    # What this machine took to queue the others counts as training of the first job, and delays the turn by a tenth.
    with resources.database.transaction() as session:
        session.execute(update(TrainingShare).values(used_s=0.0))
    taken = [_take(resources, bench).job.id for _ in range(7)]
    # Its own jobs stay in order.
    assert [id_ for id_ in taken if id_ not in {job.id for job in others}] == [job.id for job in backlog[1:]]
    assert [taken.index(job.id) for job in others] == [0, 2]
    assert claims.claim_next(resources, "worker") is None


def test_workers_are_shared_before_turns_are_taken(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    many, few = customer(), customer()
    file = bench.file(many)
    for _ in range(4):
        bench.job(many, training_file=file.id)
    bench.job(few)
    held = [claims.claim_next(resources, f"worker-{number}") for number in range(3)]
    assert Counter(claim.job.customer_id for claim in held if claim) == {many.id: 2, few.id: 1}


def test_a_job_that_was_given_back_is_the_next_of_its_customer(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    acme = customer()
    first, _second = bench.job(acme), bench.job(acme)
    claim = claims.claim_next(resources, "worker")
    assert claim is not None
    claims.release(resources, claim, to="queued")
    again = claims.claim_next(resources, "worker")
    assert again is not None
    assert (again.job.id, again.attempt) == (first.id, 2)


@pytest.mark.parametrize("many", [1, 4])
def test_no_job_is_claimed_twice_and_none_is_left(
    resources: Resources, bench: Bench, customer: MakeCustomer, many: int
) -> None:
    """Eight workers at once; one customer for all of them, and more customers than there are jobs of each."""
    owners = [customer() for _ in range(many)]
    submitted = []
    for owner in owners:
        file = bench.file(owner)
        submitted += [bench.job(owner, training_file=file.id).id for _ in range(12 // many)]
    start = threading.Barrier(8)
    taken: list[str] = []
    errors: list[BaseException] = []

    def work(name: str) -> None:
        start.wait()
        try:
            while (claim := claims.claim_next(resources, name)) is not None:
                taken.append(claim.job.id)
                assert claim.attempt == 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(f"worker-{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(taken) == sorted(submitted)


def test_a_job_whose_row_is_held_is_passed_over_not_waited_for(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    held, free = bench.job(customer()), bench.job(customer())
    if resources.database.dialect == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    with resources.database.transaction() as session:
        session.execute(select(Job).where(Job.id == held.id).with_for_update())
        claim = claims.claim_next(resources, "worker")  # would wait for the lock's timeout
    assert claim is not None
    assert claim.job.id == free.id


def test_a_message_more_or_less_does_no_harm(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme = customer()
    file = bench.file(acme)
    first, second = (bench.job(acme, training_file=file.id) for _ in range(2))
    assert bench.messages() == 2
    # A message for the second comes first: it brings the first. A third one brings nothing.
    assert [_take(resources, bench).job.id, _take(resources, bench).job.id] == [first.id, second.id]
    assert claims.claim_next(resources, "worker") is None
    # One that the broker lost is sent again, whichever job it was for.
    late = [bench.job(acme, training_file=file.id) for _ in range(2)]
    bench.broker.flushall()
    resources.queue.send(late[0].id)
    for job in late:
        bench.age(job.id, 1_000)
    assert sweeping.resend_lost(resources) == 1
    assert bench.messages() == 2


def test_each_attempt_counts_once_and_whose_fault_it_was_decides_of_the_month(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    def began(seconds: float, lease_left_s: float = 30.0) -> None:
        with resources.database.transaction() as session:
            values = {"claimed_at": clock() - seconds, "lease_until": clock() + lease_left_s}
            session.execute(update(Job).where(Job.status == "running").values(**values))

    acme = customer()
    job = bench.job(acme)
    assert _share(resources, acme.id) is None
    began_and_ended: list[tuple[float, Callable[[claims.Claim], object]]] = [
        (10, lambda claim: claims.release(resources, claim, to="queued")),
        (20, lambda claim: claims.retry(resources, claim, JobError("trainer_died", "Killed."))),
        (40, lambda claim: sweeping.reclaim_dead(resources)),
    ]
    for seconds, end in began_and_ended:
        claim = bench.claim(job)
        began(seconds, -0.001 if seconds == 40 else 30)
        end(claim)
    share = _share(resources, acme.id)
    assert share is not None
    assert share.used_s == pytest.approx(70, abs=1)
    assert share.month_s == 0  # none of these was the customer's doing
    claim = bench.claim(job)
    claims.publish(resources, claim, bench.candidate(), promote=True)
    began(80)
    for _ in range(2):  # the answer was lost
        claims.finish(resources, claim, bench.finished())
    claim = bench.claim(bench.job(acme))
    jobs.cancel(resources, acme.id, claim.job.id)
    began(100)
    claims.release(resources, claim, to="cancelled")
    share = _share(resources, acme.id)
    assert share is not None
    assert share.used_s == pytest.approx(250, abs=2)
    assert share.month_s == pytest.approx(180, abs=2)


@pytest.mark.parametrize(
    ("now", "following"),
    [("2026-11-29 23:59:59", "2026-12-01 00:00:00"), ("2026-12-31 12:00:00", "2027-01-01 00:00:00")],
)
def test_a_month_ends_in_utc(now: str, following: str) -> None:
    moment, then = (datetime.fromisoformat(f"{one}+00:00").timestamp() for one in (now, following))
    assert training_shares._next_month(moment) == then
    assert training_shares._month(then) != training_shares._month(moment) == training_shares._month(then - 1)
