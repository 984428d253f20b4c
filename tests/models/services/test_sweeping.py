from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import delete, update

from models.errors import JobError
from models.records import jobs as records
from models.records.changes import Change
from models.records.clock import clock
from models.records.customers import Customer
from models.records.files import File
from models.records.versions import ModelVersion
from models.services import changes, claims, customers, jobs, orphans, sweeping
from models.services.errors import LeaseLost
from models.services.queue import QUEUE_NAME
from models.services.resources import Resources
from models.storage.filesystem import DirectoryStore
from models.storage.s3 import S3Connection, S3Store

from .conftest import Bench

MakeCustomer = Callable[..., Customer]


def test_a_message_that_the_broker_lost_is_sent_again(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    job = bench.job(customer())
    bench.broker.flushall()
    assert sweeping.resend_lost(resources) == 0  # it may still be on its way
    bench.age(job.id, resources.settings.resend_after_s + 1)
    assert sweeping.resend_lost(resources) == 1
    assert sweeping.resend_lost(resources) == 0
    assert bench.messages() == 1


def test_a_long_queue_does_not_grow_by_itself(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    """All workers are busy for long: the messages are old, and all there."""
    acme = customer()
    file = bench.file(acme)
    queued = [bench.job(acme, training_file=file.id) for _ in range(4)]
    for job in queued:
        bench.age(job.id, 1_000)
    assert sweeping.resend_lost(resources) == 0
    bench.broker.lpop(QUEUE_NAME)
    assert sweeping.resend_lost(resources) == 1
    assert bench.messages() == 4


def test_only_queued_jobs_are_sent(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme = customer()
    running, paused, cancelled = (bench.job(acme) for _ in range(3))
    bench.claim(running)
    jobs.pause(resources, acme.id, paused.id)
    jobs.cancel(resources, acme.id, cancelled.id)
    bench.broker.flushall()
    for job in (running, paused, cancelled):
        bench.age(job.id, 1_000)
    assert sweeping.resend_lost(resources) == 0


def test_a_dead_workers_job_goes_to_the_next(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    job = bench.job(customer())
    bench.claim(job)
    assert sweeping.reclaim_dead(resources) == []
    bench.broker.flushall()
    bench.expire(job.id)
    assert sweeping.reclaim_dead(resources) == [job.id]
    now = bench.read(job)
    assert (now.status, now.attempt, now.lease_until, now.step) == ("queued", 1, None, None)
    assert bench.messages() == 1
    assert "The worker that ran it was lost" in bench.said(job)[-1]
    assert bench.claim(job, "worker-2").attempt == 2


def test_a_worker_that_is_known_to_be_dead_is_not_waited_for(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    acme = customer()
    killed, alive = bench.job(acme), bench.job(acme)
    claim = bench.claim(killed, "killed")
    bench.claim(alive, "alive")
    assert sweeping.reclaim_dead(resources, lambda worker: worker == "killed") == [killed.id]
    assert (bench.read(killed).status, bench.read(alive).status) == ("queued", "running")
    # One that was no more than thought dead writes nothing.
    with pytest.raises(LeaseLost):
        claims.heartbeat(resources, claim)
    # A sweeper that looked before the job went to another attempt takes nothing away.
    bench.claim(killed, "other")
    with resources.database.transaction() as session:
        assert records.lock_dead(session, killed.id, 1, worker="killed") is None
        assert records.lock_dead(session, killed.id, 2, worker="killed") is None


def test_lost_workers_use_up_no_attempts_and_yet_not_for_ever(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    job = bench.job(customer())
    for number in range(1, resources.settings.max_interruptions + 1):
        assert bench.read(job).status == "queued", number
        bench.claim(job)
        bench.expire(job.id)
        assert sweeping.reclaim_dead(resources) == [job.id]
    now = bench.read(job)
    assert (now.status, now.attempt, now.excused, now.interruptions) == ("failed", 20, 20, 20)
    assert now.error is not None
    assert (now.error["code"], now.error["blame"]) == ("interrupted_too_often", "server")
    assert "after 20 interruptions" in now.error["message"]
    assert "not billed" in now.error["message"]
    assert now.finished_at is not None


def test_interruptions_and_failures_are_counted_apart(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    job = bench.job(customer())
    for failures in (1, 2):
        for _ in range(2):
            bench.claim(job)
            bench.expire(job.id)
            sweeping.reclaim_dead(resources)
        assert claims.retry(resources, bench.claim(job), JobError("trainer_died", "Killed.")).status == "queued"
        assert f"({failures} of 3 used)" in bench.said(job)[-1]
    assert claims.retry(resources, bench.claim(job), JobError("trainer_died", "Killed.")).status == "failed"


@pytest.mark.parametrize(("wish", "outcome"), [(jobs.cancel, "cancelled"), (jobs.pause, "paused")])
def test_a_wish_outlives_the_worker(
    resources: Resources, bench: Bench, customer: MakeCustomer, wish: Callable[..., object], outcome: str
) -> None:
    acme = customer()
    job = bench.job(acme)
    bench.claim(job)
    wish(resources, acme.id, job.id)
    bench.expire(job.id)
    sweeping.reclaim_dead(resources)
    assert bench.read(job).status == outcome


def test_many_sweepers_take_a_job_back_once(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    job = bench.job(customer())
    bench.claim(job)
    bench.expire(job.id)
    taken: list[str] = []
    threads = [threading.Thread(target=lambda: taken.extend(sweeping.reclaim_dead(resources))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken == [job.id]
    assert bench.read(job).attempt == 1


def test_orphans_go_and_nothing_else(
    resources: Resources, bench: Bench, customer: MakeCustomer, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme = customer()
    done = bench.succeed(acme)
    running = bench.claim(bench.job(acme))
    bench.expire(running.job.id)
    sweeping.reclaim_dead(resources)
    second = bench.claim(running.job)
    base = f"customers/{acme.id}/models/{done.model_id}"
    uploading = f"customers/{acme.id}/models/{second.job.model_id}/{second.job.id}/2/head/weights.safetensors"
    stays = {*resources.store.list("customers/"), uploading, "other/place", f"customers/{acme.id}/notes/x"}
    goes = {
        f"{base}/{done.id}/7/head/manifest.json",  # of an attempt that lost
        f"customers/{acme.id}/models/{second.job.model_id}/{second.job.id}/1/head/part/weights.safetensors",
        "customers/cus_gone/files/file-1",
        "customers/cus_gone/anything",
    }
    fresh = f"customers/{acme.id}/files/file-being-uploaded"
    for key in {*goes, uploading, "other/place", f"customers/{acme.id}/notes/x", fresh}:
        resources.store.put_bytes(key, b"x")
    assert sweeping.delete_orphans(resources) == len(goes)
    assert set(resources.store.list("")) == stays | {fresh}
    # The upload was never completed.
    monkeypatch.setattr(orphans, "UPLOAD_S", -60.0)
    assert sweeping.delete_orphans(resources) == 1
    assert set(resources.store.list("")) == stays


def test_weights_stay_where_versions_were_lost(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    """An upgrade once took all versions out of the database; what they are can still be put back from a backup."""
    acme = customer()
    lost, whole = bench.succeed(acme, suffix="lost"), bench.succeed(acme, suffix="whole")
    left = f"customers/{acme.id}/models/{whole.model_id}/{whole.id}/7/head/manifest.json"
    stays = set(resources.store.list("customers/"))
    resources.store.put_bytes(left, b"x")
    with resources.database.transaction() as session:
        session.execute(delete(ModelVersion).where(ModelVersion.model_id == lost.model_id))
    assert sweeping.delete_orphans(resources) == 1
    assert set(resources.store.list("customers/")) == stays


def test_half_of_an_object_goes_with_the_orphans(resources: Resources, tmp_path: Path) -> None:
    resources = replace(resources, store=DirectoryStore(tmp_path / "store"))
    left = tmp_path / "store" / ".incoming" / "left-by-a-killed-process"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"x")
    assert sweeping.delete_orphans(resources) == 0
    os.utime(left, (time.time() - 7_200,) * 2)
    assert sweeping.delete_orphans(resources) == 1
    assert not left.exists()


def test_what_has_expired_is_forgotten(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    from models.services import idempotency

    bench.succeed(customer())
    idempotency.begin(resources, "operator", "key", "a" * 64)
    with resources.database.transaction() as session:
        session.execute(update(Change).values(created_at=clock() - 10_000))
    assert changes.since(resources, 60) == []
    before = sweeping.forget_expired(resources)
    assert before >= 1
    assert sweeping.forget_expired(resources) == 0


def test_deleting_a_customer_reports_what_went(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    from models.services import idempotency, keys

    acme, other = customer("acme"), customer("other")
    keys.issue(resources, acme.id, name="production")
    bench.succeed(acme)
    bench.job(acme)
    idempotency.begin(resources, acme.id, "key", "a" * 64)
    kept = bench.succeed(other)
    objects = set(resources.store.list("customers/"))
    theirs = {key for key in objects if other.id in key}
    report = customers.delete(resources, acme.id)
    assert report.objects == len(objects - theirs)
    assert report.removed | {"job_events": 0} == {
        "job_events": 0,
        "aliases": 1,
        "model_versions": 1,
        "jobs": 2,
        "models": 1,
        "retired_models": 0,
        "files": 2,
        "api_keys": 1,
        "usage_records": 1,
        "training_shares": 1,
        "idempotent_answers": 1,
        "customers": 1,
    }
    assert report.rows == sum(report.removed.values())
    assert set(resources.store.list("customers/")) == theirs
    assert bench.read(kept).status == "succeeded"
    subjects = [(row.kind, row.subject) for row in changes.since(resources, 60)]
    assert ("customer", acme.id) in subjects
    with resources.database.reading() as session:
        assert session.query(File).filter_by(customer_id=acme.id).count() == 0


def test_deleting_a_customer_while_the_store_is_away(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    acme = customer()
    bench.file(acme)
    nowhere = S3Store("bucket", "", S3Connection("http://127.0.0.1:1", access_key_id="a", secret_access_key="s"))
    report = customers.delete(replace(resources, store=nowhere), acme.id)
    assert (report.complete, report.removed["files"]) == (False, 1)
    assert sweeping.delete_orphans(resources) == 1
