from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import openai
import pytest
from alembic.script import ScriptDirectory
from prometheus_client import generate_latest
from pydantic import SecretStr
from sqlalchemy import text as sql

from api.metrics import Metrics
from models.records import database, migrations
from models.services import job_figures
from models.services.resources import open_resources
from models.settings import Settings

if TYPE_CHECKING:
    from tests.api.conftest import Server

Run = Callable[[Settings], AbstractContextManager["Server"]]
SettingsFor = Callable[..., Settings]


def test_the_control_plane_never_loads_torch() -> None:
    program = """
import json, sys, time
start = time.perf_counter()
from api.application import create_app
from models.settings import Settings
app = create_app(Settings(role="api"))
heavy = [name for name in ("torch", "transformers", "sklearn", "scipy") if name in sys.modules]
print(json.dumps({"heavy": heavy, "seconds": time.perf_counter() - start, "routes": len(app.routes)}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    found = json.loads(done.stdout)
    assert found["heavy"] == []
    assert found["routes"] > 20


def test_each_role_has_its_routes(settings_for: SettingsFor, run_server: Run) -> None:
    with run_server(settings_for(role="api")) as server:
        assert server.anonymous.get("/readyz").json()["checks"].keys() == {
            "database",
            "schema",
            "store",
            "broker",
            "disk",
            "uploads",
        }
        tenant = server.tenant("acme")
        assert tenant.http.post("/v1/models/x/predict", json={"input": "x"}).status_code == 404
        assert tenant.http.get("/v1/models").json()["data"][0]["id"] == "minilm"
    with run_server(settings_for(role="predictor")) as predictor:
        assert predictor.anonymous.get("/readyz").json() == {"status": "ready", "checks": {"predictor": "ok"}}
        assert predictor.operator.get("/v1/customers").status_code == 404
        assert "graft_jobs" not in predictor.anonymous.get("/metrics").text


def test_readiness_names_a_broker_that_is_away_and_goes_on_without_it(
    settings_for: SettingsFor, run_server: Run
) -> None:
    with run_server(settings_for(broker_url="redis+socket:///nowhere/valkey.sock")) as server:
        answer = server.anonymous.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (200, "ready")
        checks = answer.json()["checks"]
        assert (checks["database"], checks["store"]) == ("ok", "ok")
        assert checks["broker"].startswith("unreachable")
        # The broker is no condition for accepting a job: the row is its own outbox.
        tenant = server.tenant("acme")
        rows = [{"text": f"{word} {n}", "label": word} for word in ("yes", "no") for n in range(3)]
        accepted = tenant.http.post("/v1/fine_tuning/jobs", json={"training_data": rows})
        assert (accepted.status_code, accepted.json()["status"]) == (200, "queued")


def test_readiness_lists_what_fails(settings_for: SettingsFor, run_server: Run) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{probe.getsockname()[1]}"  # bound, nobody listens
        settings = settings_for(
            object_store="s3://bucket/graft",
            s3_endpoint_url=nowhere,
            s3_access_key_id=SecretStr("id"),
            s3_secret_access_key=SecretStr("secret"),
        )
        with run_server(settings) as server:
            answer = server.anonymous.get("/readyz")
            assert answer.status_code == 503
            assert answer.headers["retry-after"]
            checks = answer.json()["checks"]
            assert (checks["database"], checks["broker"]) == ("ok", "ok")
            assert checks["store"] != "ok"
            assert server.anonymous.get("/healthz").json()["status"] == "ok"


def test_the_index_links_to_the_documentation(server: Server) -> None:
    index = server.anonymous.get("/").json()
    assert index["name"] == "graft"
    assert server.anonymous.get(index["links"]["docs"]).status_code == 200
    assert server.anonymous.get("/redoc").status_code == 404


def test_the_documentation_needs_no_internet(server: Server) -> None:
    page = server.anonymous.get("/docs").text
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(addresses) >= 2
    for address in addresses:
        assert address.startswith("/docs/assets/")
        assert server.anonymous.get(address).status_code == 200


def test_a_customer_is_told_how_many_requests_are_left(settings_for: SettingsFor, run_server: Run) -> None:
    with run_server(settings_for(rate_limit="5/year")) as server:
        tenant, other = server.tenant("acme"), server.tenant("other")
        left = []
        for _ in range(5):
            answer = tenant.http.get("/v1/files/none")
            assert answer.status_code == 404
            assert answer.headers["x-ratelimit-limit-requests"] == "5"
            assert answer.headers["x-ratelimit-reset-requests"].endswith("s")
            left.append(int(answer.headers["x-ratelimit-remaining-requests"]))
        assert left == [4, 3, 2, 1, 0]
        refused = tenant.http.get("/v1/files")
        assert (refused.status_code, refused.json()["error"]["type"]) == (429, "rate_limit_error")
        assert 1 <= int(refused.headers["retry-after"]) <= 366 * 86_400
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        with pytest.raises(openai.RateLimitError):
            tenant.openai.files.list()
        assert other.http.get("/v1/files").status_code == 200


def test_metrics_count_requests_by_route_and_jobs_by_state(server: Server) -> None:
    server.anonymous.get("/v1/files/file-123")
    text = server.anonymous.get("/metrics").text
    assert 'graft_http_requests_total{method="GET",route="/v1/files/{file_id}",status="401"}' in text
    assert 'graft_http_request_duration_seconds_bucket{le="0.005",method="GET",route="/v1/files/{file_id}"}' in text
    assert 'graft_jobs{status="queued"} 0.0' in text
    assert 'graft_failed_jobs{blame="server"} 0.0' in text
    assert "graft_oldest_queued_job_age_seconds 0.0" in text
    assert 'graft_dependency_up{dependency="broker"} 1.0' in text
    assert 'graft_uploads{state="waiting"} 0.0' in text
    assert 'graft_upload_readers_ended_total{reason="timeout"} 0.0' in text
    assert "graft_queue_messages" in text
    assert "process_resident_memory_bytes" in text
    assert "process_start_time_seconds" in text
    assert "file-123" not in text


def test_a_scrape_without_the_database_leaves_out_what_only_that_knows(settings_for: SettingsFor) -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/nothing"
    resources = open_resources(settings_for().model_copy(update={"database_url": nowhere}))
    try:
        metrics = Metrics("1", resources.settings.data_dir)
        metrics.watch_jobs(lambda: job_figures.measure(resources), resources.queue.depth)
        text = generate_latest(metrics.registry).decode()
    finally:
        resources.close()
    assert "graft_jobs" not in text
    assert 'graft_dependency_up{dependency="database"} 0.0' in text
    assert "graft_queue_messages" in text
    assert "graft_http_requests_in_flight" in text


def test_an_unmigrated_database_is_not_ready_and_a_newer_one_is(settings_for: SettingsFor, run_server: Run) -> None:
    """Before, a database without a single table was ready, and every request failed."""
    with run_server(settings_for()) as server:
        resources = open_resources(server.settings)
        try:
            for found, ready in (("0001", False), ("9999", True)):
                with resources.database.transaction() as session:
                    session.execute(sql("UPDATE alembic_version SET version_num = :found"), {"found": found})
                answer = server.anonymous.get("/readyz")
                assert (answer.status_code == 200) == ready
                assert (answer.json()["checks"]["schema"] == "ok") == ready
            with resources.database.transaction() as session:
                session.execute(sql("DROP TABLE alembic_version"))
            answer = server.anonymous.get("/readyz")
            assert answer.status_code == 503
            assert "graft migrate" in answer.json()["checks"]["schema"]
        finally:
            resources.close()


def test_the_revisions_are_alembics() -> None:
    known = {script.revision for script in ScriptDirectory(str(Path(migrations.__file__).parent)).walk_revisions()}
    assert database.known_revisions() == known
    assert ScriptDirectory(str(Path(migrations.__file__).parent)).get_heads() == [max(known)]
