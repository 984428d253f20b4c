from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time

import pytest
import redis
from sqlalchemy import update

from models.records.database import Database
from models.records.jobs import Job
from models.services.queue import QUEUE_NAME, JobQueue
from worker.sweeper import Sweeper, sweep_once


def test_a_job_whose_worker_is_gone_runs_again_and_its_message_is_sent(resources, submit, fetch, valkey_socket):
    job_id = submit("quick")
    with resources.database.transaction() as session:
        session.execute(
            update(Job).where(Job.id == job_id).values(status="running", attempt=1, worker="dead", lease_until=1.0)
        )
    assert sweep_once(resources, orphans=True)
    assert fetch(job_id).status == "queued"
    with redis.Redis(unix_socket_path=str(valkey_socket)) as client:
        assert client.llen(QUEUE_NAME) == 1


def test_many_sweepers_send_one_message_each_at_most(resources, submit, fetch, until, valkey_socket):
    job_id = submit("quick")
    impatient = resources.settings.model_copy(update={"sweep_s": 0.05})
    sweepers = [Sweeper(dataclasses.replace(resources, settings=impatient)) for _ in range(3)]
    for sweeper in sweepers:
        sweeper.start()
    with redis.Redis(unix_socket_path=str(valkey_socket)) as client:
        until(lambda: fetch(job_id).sent_at)
        for sweeper in sweepers:
            sweeper.stop()
        for _ in range(5):
            assert sweep_once(resources, orphans=False)
        assert 1 <= client.llen(QUEUE_NAME) <= len(sweepers)


def test_a_step_that_fails_keeps_no_other_from_running(resources, submit, fetch):
    job_id = submit("quick")
    elsewhere = resources.settings.model_copy(update={"broker_url": "redis://127.0.0.1:1/0"})
    queue = JobQueue(elsewhere.broker_url)
    assert sweep_once(dataclasses.replace(resources, queue=queue), orphans=True)
    assert fetch(job_id).sent_at is None
    away = Database("postgresql://nobody@127.0.0.1:1/nothing")
    assert not sweep_once(dataclasses.replace(resources, database=away), orphans=True)


@pytest.mark.slow
def test_the_command_line_sweeps_once_and_says_whether_it_went_well(settings, database_url, valkey, submit, fetch):
    job_id = submit("quick")
    environment = {
        **os.environ,
        "GRAFT_DATA_DIR": str(settings.data_dir),
        "GRAFT_DATABASE_URL": database_url,
        "GRAFT_BROKER_URL": valkey,
    }
    command = [sys.executable, "-m", "worker.sweeper", "--once"]
    assert subprocess.run(command, env=environment, check=False).returncode == 0
    assert fetch(job_id).sent_at <= time.time()
    environment["GRAFT_DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/nothing"
    assert subprocess.run(command, env=environment, check=False, capture_output=True).returncode == 1
