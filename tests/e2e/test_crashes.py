"""kill -9 and SIGSTOP of trainer and worker in mid-job: the job still ends, once."""

from __future__ import annotations

import signal

import psutil
import pytest
from sqlalchemy import NullPool, create_engine
from sqlalchemy.exc import OperationalError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def assert_ended_once(deployment, customer, job_id):
    versions = deployment.versions(job_id)
    assert versions
    assert len(versions) == len(set(versions))
    assert versions == customer.checkpoints(job_id)
    assert deployment.bills(job_id) == 1
    assert customer.predict("tickets", ["my parcel was lost by the courier"])[0]["label"] == "shipping"


def test_a_killed_trainer_costs_an_attempt_and_not_the_job(deployment, tickets):
    acme = deployment.customer("acme")
    job_id = acme.train_for_a_while("tickets")
    acme.wait_in_training(job_id).kill()
    job = acme.wait(job_id, "succeeded", timeout_s=240)
    assert job["attempt"] == 2
    assert_ended_once(deployment, acme, job_id)


def test_a_killed_worker_takes_its_trainer_along_and_another_worker_finishes(deployment, tickets, wait_until):
    acme = deployment.customer("acme")
    job_id = acme.train_for_a_while("tickets")
    trainer = acme.wait_in_training(job_id)
    deployment.workers[0].kill()
    wait_until(lambda: gone(trainer), 10)
    deployment.start_worker()
    job = acme.wait(job_id, "succeeded", timeout_s=240)
    assert job["attempt"] == 2
    assert_ended_once(deployment, acme, job_id)


def test_a_terminated_worker_gives_its_job_back_and_uses_up_no_attempt(deployment, tickets):
    acme = deployment.customer("acme")
    job_id = acme.train_for_a_while("tickets")
    trainer = acme.wait_in_training(job_id)
    deployment.workers[0].terminate()
    assert deployment.workers[0].wait(15) == 0
    assert gone(trainer)
    assert acme.job(job_id)["status"] == "queued"
    assert deployment.rows("SELECT attempt, excused FROM jobs WHERE id = :job_id", job_id) == [(1, 1)]
    deployment.start_worker()
    acme.wait(job_id, "succeeded", timeout_s=240)
    assert_ended_once(deployment, acme, job_id)


def test_a_frozen_worker_that_wakes_up_late_publishes_nothing(deployment, tickets, wait_until):
    acme = deployment.customer("acme")
    job_id = acme.train_for_a_while("tickets")
    acme.wait_in_training(job_id)
    frozen = deployment.workers[0]
    freeze_between_transactions(deployment, frozen, wait_until)
    deployment.start_worker()
    wait_until(lambda: acme.job(job_id)["attempt"] == 2, 60, "for another worker to take over")
    frozen.send_signal(signal.SIGCONT)
    acme.wait(job_id, "succeeded", timeout_s=240)
    wait_until(lambda: "lease_lost" in deployment.log("worker-1"), 30)
    assert_ended_once(deployment, acme, job_id)
    # And it is of use again.
    deployment.workers[1].terminate()
    deployment.workers[1].wait(15)
    acme.wait(acme.train(tickets, "again"), "succeeded", timeout_s=240)


def freeze_between_transactions(deployment, worker, wait_until):
    """SIGSTOP at a moment when the worker holds no lock, which would stop everybody until it wakes up."""
    on_sqlite = deployment.database_url.startswith("sqlite")
    engine = create_engine(
        deployment.database_url, poolclass=NullPool, connect_args={"timeout": 1} if on_sqlite else {}
    )
    lock = "BEGIN IMMEDIATE" if on_sqlite else "SELECT id FROM jobs FOR UPDATE NOWAIT"

    def frozen() -> bool:
        worker.send_signal(signal.SIGSTOP)
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql(lock)
                connection.rollback()
        except OperationalError:
            worker.send_signal(signal.SIGCONT)
            return False
        return True

    wait_until(frozen)


def test_a_job_that_kills_its_trainer_three_times_fails_and_the_next_one_runs(deployment, tickets, wait_until):
    acme = deployment.customer("acme")
    poison = acme.train_for_long("poison")
    for attempt in (1, 2, 3):

        def at_work(attempt=attempt):
            job = acme.job(poison)
            assert job["attempt"] <= attempt
            return job["attempt"] == attempt and job["step"] is not None

        wait_until(at_work, 120, f"for attempt {attempt}")
        wait_until(deployment.trainer).kill()
    job = wait_until(lambda: (j := acme.job(poison))["status"] == "failed" and j, 60)
    assert job["error"]["blame"] == "server"
    assert job["error"]["code"] == "trainer_died"
    assert "3 attempts" in job["error"]["message"]
    assert deployment.bills(poison) == 0
    acme.wait(acme.train(tickets, "tickets"), "succeeded", timeout_s=240)
