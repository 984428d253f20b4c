from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from models.records.database import Database


def test_one_line_per_request_without_keys_or_texts(settings_for: Callable[..., Any], tmp_path: Path) -> None:
    settings = settings_for(role="api")
    settings.data_dir.mkdir()
    database = Database(settings.resolved_database_url)
    database.migrate()
    database.close()
    socket = tmp_path / "api.sock"
    env = {
        **os.environ,
        "GRAFT_DATA_DIR": str(settings.data_dir),
        "GRAFT_DATABASE_URL": settings.resolved_database_url,
        "GRAFT_BROKER_URL": settings.broker_url,
        "GRAFT_ADMIN_KEY": "operator-secret-key-0123456789abcdef",
        "GRAFT_ROLE": "api",
        "GRAFT_LOG_FORMAT": "json",
    }
    command = [sys.executable, "-m", "uvicorn", "--factory", "api.application:create_app", "--uds", str(socket)]
    with (tmp_path / "log").open("w+") as log:
        process = subprocess.Popen(command, env=env, stderr=log, stdout=log)
        try:
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://graft") as client:
                _wait_until_ready(client)
                operator = {"authorization": "Bearer operator-secret-key-0123456789abcdef"}
                customer = client.post("/v1/customers", json={"name": "acme"}, headers=operator).json()
                issued = client.post(f"/v1/customers/{customer['id']}/keys", headers=operator).json()
                key = {"authorization": f"Bearer {issued['key']}", "x-request-id": "trace-1"}
                rows = [{"text": f"a-private-text {n}", "label": f"label-{n % 2}"} for n in range(6)]
                job = client.post("/v1/fine_tuning/jobs", json={"training_data": rows}, headers=key).json()
                client.get(f"/v1/fine_tuning/jobs/{job['id']}", headers=key)
                client.get("/v1/files/file-x%0a%1b%5b2J%7f%c2%9b1mroot", headers=key)
                client.get("/v1/fine_tuning/jobs/ftjob-none", headers={"authorization": "Bearer gr-wrong-secret"})
        finally:
            process.terminate()
            assert process.wait(20) == -signal.SIGTERM
        log.seek(0)
        text = log.read()
    for secret in (
        issued["key"],
        "operator-secret-key-0123456789abcdef",
        "gr-wrong-secret",
        "a-private-text",
        "label-0",
    ):
        assert secret not in text
    lines = [json.loads(line) for line in text.splitlines()]
    requests = [line for line in lines if line["event"] == "request"]
    last = requests[-3]
    assert (last["method"], last["route"], last["status"]) == ("GET", "/v1/fine_tuning/jobs/{job_id}", 200)
    assert (last["customer_id"], last["job_id"], last["request_id"]) == (customer["id"], job["id"], "trace-1")
    assert last["ms"] > 0
    assert last["key_id"] == issued["id"]
    # Before, a terminal that showed the line obeyed the bytes 7f and c2 9b, which JSON leaves as they are.
    assert {character for character in text if not character.isprintable()} == {"\n"}
    assert requests[-2]["file_id"] == "file-x\n\x1b[2J\\x7f\\x9b1mroot"
    # Before, nothing said whose account the operator's key had touched, and nobody's address was logged.
    made, issuing = (line for line in requests if line["method"] == "POST" and "customers" in line["route"])
    assert (made["caller"], made["target_customer_id"]) == ("operator", customer["id"])
    assert (issuing["target_customer_id"], issuing["target_key_id"]) == (customer["id"], issued["id"])
    assert all("address" in line for line in requests)
    assert requests[-1]["status"] == 401
    assert "customer_id" not in requests[-1]
    submitted = next(line for line in lines if line["event"] == "job submitted")
    assert (submitted["job_id"], submitted["request_id"]) == (job["id"], "trace-1")


def _wait_until_ready(client: httpx.Client) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            assert client.get("/readyz").status_code == 200
        except httpx.TransportError:
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.05)
        else:
            return
