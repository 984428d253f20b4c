"""Everybody at once: nothing deadlocks, and what is left is consistent."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from models.errors import GraftError, InvalidRequest, NotFound
from models.records.customers import Customer
from models.services import accounts, catalog, claims, customers, jobs, keys, sweeping, usage
from models.services.access.errors import CustomerSuspended
from models.services.accounts import AccountChange
from models.services.claims import Claim
from models.services.errors import LeaseLost, NoSuchVersion, VersionInUse
from models.services.resources import Resources
from models.services.usage import UsageDelta

from .conftest import Bench

MakeCustomer = Callable[..., Customer]
Acts = Sequence[tuple[Callable[[], object], tuple[type[GraftError], ...]]]


def _run_at_once(acts: Acts) -> list[BaseException]:
    """What went wrong beyond the errors that each may meet."""
    errors: list[BaseException] = []
    start = threading.Barrier(len(acts))

    def work(act: Callable[[], object], expected: tuple[type[GraftError], ...]) -> None:
        start.wait()
        try:
            act()
        except expected:
            pass
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=act) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def _see_through(resources: Resources, bench: Bench, claim: Claim) -> None:
    claims.heartbeat(resources, claim, events=[("info", "message", "at work", {})])
    claims.publish(resources, claim, bench.candidate(), promote=True)
    claims.finish(resources, claim, bench.finished())


def test_a_customer_is_deleted_while_everybody_works_for_it(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    for _ in range(5):
        acme = customer()
        file = bench.file(acme)
        key = keys.issue(resources, acme.id, name="production").key
        running = [bench.claim(bench.job(acme, training_file=file.id, suffix="one")) for _ in range(3)]
        acts: Acts = [
            *((lambda claim=claim: _see_through(resources, bench, claim), (LeaseLost,)) for claim in running),
            (lambda acme=acme, file=file: bench.job(acme, training_file=file.id), (NotFound,)),
            (lambda acme=acme: jobs.pause(resources, acme.id, running[0].job.id), (InvalidRequest,)),  # noqa: B023
            (lambda key=key: keys.touch(resources, {key.id: 1.0}), ()),
            (lambda acme=acme: usage.record_predictions(resources, [UsageDelta(acme.id, "x", 1, 1, 1, 1.0)]), ()),
            (lambda acme=acme: customers.delete(resources, acme.id), ()),
        ]
        assert _run_at_once(acts) == []
        sweeping.delete_orphans(resources)
        assert list(resources.store.list("customers/")) == []


def test_one_customers_jobs_move_in_every_way_at_once(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    acme = customer()
    bench.succeed(acme, suffix="one")
    file = bench.file(acme)
    made = [bench.job(acme, training_file=file.id, suffix="one") for _ in range(6)]
    running = [bench.claim(job) for job in made[:3]]
    bench.expire(made[2].id)
    for job in made[3:]:
        bench.age(job.id, 1_000)
    bench.broker.flushall()
    acts: Acts = [
        *((lambda claim=claim: _see_through(resources, bench, claim), (LeaseLost,)) for claim in running),
        *((lambda job=job: jobs.cancel(resources, acme.id, job.id), (InvalidRequest,)) for job in made[1:]),
        *((lambda job=job: jobs.pause(resources, acme.id, job.id), (InvalidRequest,)) for job in made[1:]),
        *((lambda job=job: jobs.resume(resources, acme.id, job.id), (InvalidRequest,)) for job in made[1:]),
        *[(lambda: catalog.set_alias(resources, acme.id, "one", "live", 1), ())] * 2,
        *[(lambda: sweeping.reclaim_dead(resources), ())] * 2,
        *[(lambda: sweeping.resend_lost(resources), ())] * 2,
    ]
    assert _run_at_once(acts) == []
    # Two workers hold their leases and finish, whatever is asked of them meanwhile. The third's lease has run out. No
    # pause or resumption undoes a cancellation, in whichever state it finds the job.
    assert [bench.read(job).status for job in made] == ["succeeded"] * 2 + ["cancelled"] * 4
    numbers = [version.number for version in catalog.versions_page(resources, acme.id, "one", limit=50).data]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))


def test_a_customer_is_suspended_and_resumed_while_everybody_works_for_it(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    acme = customer()
    bench.succeed(acme, suffix="one")
    file = bench.file(acme)
    made = [bench.job(acme, training_file=file.id, suffix="one") for _ in range(8)]
    running = [bench.claim(job) for job in made[:2]]

    def work() -> None:
        claim = claims.claim_next(resources, "worker")
        if claim is not None:
            _see_through(resources, bench, claim)

    def suspend(suspended: bool) -> object:
        return accounts.update(resources, acme.id, AccountChange(suspended=suspended))

    acts: Acts = [
        *((lambda claim=claim: _see_through(resources, bench, claim), (LeaseLost,)) for claim in running),
        *[(work, (LeaseLost,))] * 3,
        *[(lambda: suspend(True), ())] * 2,
        *[(lambda: suspend(False), ())] * 2,
        (lambda: bench.job(acme, training_file=file.id, suffix="one"), (CustomerSuspended,)),
        (lambda: jobs.pause(resources, acme.id, made[6].id), (InvalidRequest,)),
        (lambda: jobs.resume(resources, acme.id, made[6].id), (InvalidRequest, CustomerSuspended)),
        (lambda: jobs.cancel(resources, acme.id, made[7].id), (InvalidRequest,)),
    ]
    assert _run_at_once(acts) == []
    suspend(True)
    statuses = {job.status for job in jobs.list_page(resources, acme.id).data}
    assert statuses <= {"succeeded", "paused", "cancelled"}
    suspend(False)
    # What the suspension paused, and only that, waits again; all of it comes to its end.
    held = [job for job in jobs.list_page(resources, acme.id).data if job.status == "paused"]
    assert [job.id for job in held] in ([], [made[6].id])
    while (claim := claims.claim_next(resources, "worker")) is not None:
        _see_through(resources, bench, claim)
    assert {job.status for job in jobs.list_page(resources, acme.id).data} <= {"succeeded", "cancelled", "paused"}


def test_a_version_is_promoted_while_it_is_deleted(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme, rounds = customer(), 10
    file = bench.file(acme)
    for _ in range(rounds + 1):
        bench.succeed(acme, suffix="one", training_file=file.id, promote="always")
    for number in range(1, rounds + 1):
        acts: Acts = [
            (lambda number=number: catalog.set_alias(resources, acme.id, "one", "live", number), ()),
            (lambda number=number: catalog.delete_version(resources, acme.id, "one", number), ()),
        ]
        # Whoever comes second is refused, and the model goes on answering.
        (refused,) = _run_at_once(acts)
        assert isinstance(refused, NoSuchVersion | VersionInUse)
        answers = catalog.resolve(resources, acme.id, "one").number
        assert answers == (number if isinstance(refused, VersionInUse) else rounds + 1)
        catalog.set_alias(resources, acme.id, "one", "live", rounds + 1)
