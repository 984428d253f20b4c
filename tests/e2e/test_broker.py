"""The database is the truth and messages are hints: a broker that is away, emptied or generous changes nothing."""

from __future__ import annotations

import time

import pytest

from models.services.queue import QUEUE_NAME

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_job_that_was_posted_while_the_broker_was_away_runs_when_it_is_back(deployment, tickets):
    acme = deployment.customer("acme")
    deployment.valkey.close()
    acme.http.timeout = 10  # the POST does not wait for a broker
    job_id = acme.train(tickets, "tickets")
    assert acme.job(job_id)["status"] == "queued"
    deployment.valkey.start()
    deployment.valkey.wait_ready()
    assert acme.wait(job_id, "succeeded", timeout_s=240)["attempt"] == 1


def test_a_broker_that_restarts_in_mid_job_disturbs_neither_this_job_nor_the_next(deployment, tickets):
    acme = deployment.customer("acme")
    first = acme.train_for_a_while("first")
    acme.wait_in_training(first)
    deployment.valkey.close()
    deployment.valkey.start()
    deployment.valkey.wait_ready()
    second = acme.train(tickets, "second")
    assert acme.wait(first, "succeeded", timeout_s=240)["attempt"] == 1
    assert acme.wait(second, "succeeded", timeout_s=240)["attempt"] == 1


def test_a_message_that_comes_five_times_is_one_run(deploy, tickets, wait_until):
    deployment = deploy(workers=0)
    acme = deployment.customer("acme")
    job_id = acme.train(tickets, "tickets")
    for _ in range(4):
        deployment.send(job_id)
    with deployment.broker() as broker:
        assert broker.llen(QUEUE_NAME) == 5
        deployment.start_worker()
        deployment.start_worker()
        assert acme.wait(job_id, "succeeded", timeout_s=240)["attempt"] == 1
        wait_until(lambda: broker.llen(QUEUE_NAME) == 0, 30)
    wait_until(lambda: count(deployment, "no_job_queued") == 4, 30)
    assert count(deployment, "attempt_started") == 1
    versions = deployment.versions(job_id)
    assert len(versions) == len(set(versions)) > 0
    assert deployment.bills(job_id) == 1


def test_a_flushed_broker_loses_no_queued_job(deploy, tickets, wait_until):
    deployment = deploy(workers=0)
    acme = deployment.customer("acme")
    job_ids = [acme.train(tickets, f"tickets-{number}") for number in range(3)]
    with deployment.broker() as broker:
        wait_until(lambda: broker.llen(QUEUE_NAME) == 3)
        broker.flushall()
    deployment.start_worker()
    for job_id in job_ids:
        assert acme.wait(job_id, "succeeded", timeout_s=240)["attempt"] == 1


def test_jobs_do_not_wait_behind_a_busy_worker_while_another_is_idle(deployment, tickets, wait_until):
    acme = deployment.customer("acme")
    long = acme.train_for_long("long")
    acme.wait_in_training(long)
    deployment.start_worker()
    quick = [acme.train(tickets, f"quick-{number}") for number in range(3)]
    for job_id in quick:
        acme.wait(job_id, "succeeded", timeout_s=240)
    assert acme.job(long)["status"] == "running"
    began = time.monotonic()
    assert acme.act(long, "cancel").status_code == 200
    acme.wait(long, "cancelled", timeout_s=10 - (time.monotonic() - began))


def count(deployment, event: str) -> int:
    return sum(deployment.log(f"worker-{number}").count(event) for number in range(1, len(deployment.workers) + 1))
