"""Cancel and pause, in every state, within ten seconds."""

from __future__ import annotations

import os
import signal

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_cancel_while_queued_while_running_and_when_done(deployment, tickets):
    acme = deployment.customer("acme")
    running = acme.train_for_long("running")
    acme.wait_in_training(running)
    queued = acme.train(tickets, "queued")

    assert acme.act(queued, "cancel").json()["status"] == "cancelled"
    assert acme.act(running, "cancel").status_code == 200
    acme.wait(running, "cancelled", timeout_s=10)

    done = acme.train(tickets, "done")
    acme.wait(done, "succeeded", timeout_s=240)
    answer = acme.act(done, "cancel")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "job_ended"
    assert acme.job(queued)["attempt"] == 0
    assert deployment.bills(running) == deployment.bills(queued) == 0


def test_cancel_frees_the_device_of_a_trainer_that_does_not_listen(deployment, tickets, wait_until):
    acme = deployment.customer("acme")
    job_id = acme.train_for_long("tickets")
    trainer = acme.wait_in_training(job_id)
    group = os.getpgid(trainer.pid)
    trainer.send_signal(signal.SIGSTOP)
    acme.act(job_id, "cancel")
    acme.wait(job_id, "cancelled", timeout_s=10)
    wait_until(lambda: not [p for p in psutil.process_iter() if group_of(p) == group], 5)
    acme.wait(acme.train(tickets, "next"), "succeeded", timeout_s=240)


def group_of(process: psutil.Process) -> int | None:
    try:
        return None if process.status() == psutil.STATUS_ZOMBIE else os.getpgid(process.pid)
    except (psutil.Error, ProcessLookupError):
        return None


def test_a_paused_job_rests_until_it_is_resumed(deployment, tickets):
    acme = deployment.customer("acme")
    job_id = acme.train_for_a_while("tickets")
    acme.wait_in_training(job_id)
    assert acme.act(job_id, "pause").status_code == 200
    acme.wait(job_id, "paused", timeout_s=10)
    # The worker is free meanwhile.
    acme.wait(acme.train(tickets, "other"), "succeeded", timeout_s=240)
    assert acme.job(job_id)["status"] == "paused"
    assert acme.act(job_id, "resume").status_code == 200
    acme.wait(job_id, "succeeded", timeout_s=240)
    assert deployment.rows("SELECT attempt, excused FROM jobs WHERE id = :job_id", job_id) == [(2, 1)]
    assert deployment.bills(job_id) == 1
    versions = deployment.versions(job_id)
    assert len(versions) == len(set(versions))


def test_a_paused_queued_job_is_not_claimed(deploy, tickets):
    deployment = deploy(workers=0)
    acme = deployment.customer("acme")
    job_id = acme.train(tickets, "tickets")
    assert acme.act(job_id, "pause").json()["status"] == "paused"
    deployment.start_worker()
    acme.wait(acme.train(tickets, "other"), "succeeded", timeout_s=240)
    assert acme.job(job_id)["attempt"] == 0
    acme.act(job_id, "resume")
    acme.wait(job_id, "succeeded", timeout_s=240)
