"""Claims, leases and endings, with a real database, a real store and a small real trainer process."""

from __future__ import annotations

import dataclasses
import threading

import pytest
from sqlalchemy import select, update

from models.records.files import File
from models.records.job_events import JobEvent
from models.records.jobs import Job
from models.records.usage import UsageRecord
from models.records.versions import Alias, ModelVersion
from models.services import jobs
from worker.job_runner import JobRunner


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"lease_s": 5.0, "heartbeat_s": 0.1, "stall_timeout_s": 60.0})


def count(resources, table, *where):
    with resources.database.reading() as session:
        return len(session.scalars(select(table).where(*where)).all())


def test_a_job_is_published_finished_billed_and_cleaned_up_once(resources, runner, submit, fetch, until):
    job_id = submit("quick")
    assert runner.run() == "succeeded"
    assert runner.run() == "not claimed"
    job = fetch(job_id)
    assert (job.status, job.attempt, job.trained_rows, job.report["score"]) == ("succeeded", 1, 10, 0.9)
    assert count(resources, ModelVersion, ModelVersion.job_id == job_id) == 1
    assert count(resources, Alias, Alias.model_id == job.model_id, Alias.name == "live") == 1
    assert count(resources, UsageRecord, UsageRecord.job_id == job_id) == 1
    assert count(resources, JobEvent, JobEvent.job_id == job_id, JobEvent.type == "metrics") == 1
    cache = resources.settings.cache_dir
    until(lambda: not list((cache / "scratch").iterdir()))
    assert not (cache / "checkpoints" / job_id).exists()


def test_three_messages_at_once_for_one_job_are_one_run(resources, runner, submit, stand_in):
    job_id = submit("quick")
    others = [JobRunner(resources, stand_in) for _ in range(2)]
    outcomes: list[str] = []
    for other in others:
        other.start()
    threads = [threading.Thread(target=lambda s=s: outcomes.append(s.run())) for s in [runner, *others]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in others:
        other.close()
    assert sorted(outcomes) == ["not claimed"] * 2 + ["succeeded"]
    assert count(resources, ModelVersion, ModelVersion.job_id == job_id) == 1


def test_the_customers_fault_ends_the_job_at_once_in_its_own_words(runner, submit, fetch):
    job_id = submit("user-error")
    assert runner.run() == "failed"
    job = fetch(job_id)
    assert job.attempt == 1
    assert job.error["blame"] == "user"
    assert job.error["message"] == "Two classes are needed."


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("crash", "trainer_died"),
        ("server-error", "training_crashed"),
        ("full-disk", "disk_full"),
        ("no-memory", "out_of_memory"),
        ("nothing", "candidate_missing"),
        ("rubbish", "artifact_incomplete"),
    ],
)
def test_poison_fails_after_its_attempts_and_the_next_job_runs(resources, stand_in, submit, fetch, how, code):
    # Each attempt of those that end the trainer starts a new one: three of them once, else two.
    attempts = 3 if how == "crash" else 2
    settings = resources.settings.model_copy(update={"max_attempts": attempts})
    runner = JobRunner(dataclasses.replace(resources, settings=settings), stand_in)
    runner.start()
    try:
        _poison(resources, runner, submit, fetch, how, code, attempts)
    finally:
        runner.close()


def _poison(resources, runner, submit, fetch, how, code, attempts):
    poison = submit(how)
    features = resources.settings.cache_dir / "features" / fetch(poison).customer_id / "f"
    features.parent.mkdir(parents=True)
    features.write_bytes(b"x")
    assert [runner.run() for _ in range(attempts)] == ["queued"] * (attempts - 1) + ["failed"]
    error = fetch(poison).error
    assert (error["code"], error["blame"]) == (code, "server")
    assert "shadow" not in str(error)
    assert features.exists() is (how != "full-disk")  # where there is no room, some is made
    assert count(resources, UsageRecord, UsageRecord.job_id == poison) == 0
    submit("quick")
    assert runner.run() == "succeeded"


@pytest.mark.parametrize(("verb", "status"), [("cancel", "cancelled"), ("pause", "paused")])
@pytest.mark.parametrize("how", ["gentle", pytest.param("deaf", marks=pytest.mark.slow)])
def test_a_stop_frees_the_device_whether_the_trainer_listens_or_not(
    resources, runner, submit, fetch, until, run_in_thread, how, verb, status
):
    job_id = submit(how)
    thread, outcome = run_in_thread(runner)
    until(lambda: fetch(job_id).step)
    trainer = runner._trainers.current()
    getattr(jobs, verb)(resources, fetch(job_id).customer_id, job_id)
    thread.join(20)
    assert outcome == [status]
    assert fetch(job_id).status == status
    assert fetch(job_id).excused == 1
    if how == "gentle":
        assert runner._trainers.current() is trainer
    else:
        until(lambda: not trainer.alive)
    submit("quick")
    assert runner.run() == "succeeded"


def test_a_trainer_that_says_nothing_is_killed(resources, submit, fetch, stand_in):
    impatient = resources.settings.model_copy(update={"stall_timeout_s": 1.0, "max_attempts": 1})
    runner = JobRunner(dataclasses.replace(resources, settings=impatient), stand_in)
    runner.start()
    try:
        job_id = submit("stall")
        assert runner.run() == "failed"
        assert fetch(job_id).error["code"] == "trainer_stalled"
    finally:
        runner.close()


def test_a_run_over_the_time_limit_fails_at_once(resources, submit, fetch, stand_in):
    impatient = resources.settings.model_copy(update={"train_timeout_s": 1.0})
    runner = JobRunner(dataclasses.replace(resources, settings=impatient), stand_in)
    runner.start()
    try:
        job_id = submit("gentle")
        assert runner.run() == "failed"
        assert fetch(job_id).error["code"] == "training_timeout"
        assert fetch(job_id).attempt == 1
    finally:
        runner.close()


def test_a_shut_down_gives_the_job_back_and_uses_up_no_attempt(resources, runner, submit, fetch, until, run_in_thread):
    job_id = submit("gentle")
    thread, outcome = run_in_thread(runner)
    until(lambda: fetch(job_id).step)
    runner.shut_down()
    thread.join(10)
    job = fetch(job_id)
    assert outcome == ["queued"]
    assert (job.status, job.attempt, job.excused) == ("queued", 1, 1)
    assert runner.run() == "not claimed"  # it is going


def test_a_stolen_lease_stops_the_trainer_and_nothing_is_written(
    resources, runner, submit, fetch, until, run_in_thread
):
    job_id = submit("deaf")
    thread, outcome = run_in_thread(runner)
    until(lambda: fetch(job_id).step)
    trainer = runner._trainers.current()
    with resources.database.transaction() as session:
        session.execute(update(Job).where(Job.id == job_id).values(attempt=2, worker="thief"))
    thread.join(20)
    assert outcome == ["lost"]
    until(lambda: not trainer.alive)
    job = fetch(job_id)
    assert (job.status, job.attempt, job.worker) == ("running", 2, "thief")
    assert (resources.settings.cache_dir / "checkpoints" / job_id).exists()


def test_a_rotten_data_set_is_the_servers_fault(resources, runner, submit, fetch):
    job_id = submit("quick")
    with resources.database.reading() as session:
        key = session.get_one(File, fetch(job_id).training_file_id).object_key
    resources.store.put_bytes(key, b"rotten")
    assert [runner.run() for _ in range(3)] == ["queued", "queued", "failed"]
    assert fetch(job_id).error["code"] == "dataset_corrupt"
    assert fetch(job_id).error["blame"] == "server"
