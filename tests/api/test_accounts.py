"""Limits and suspension over HTTP, and from the command line."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from typer.testing import CliRunner

from deploy.cli.main import app
from models.settings import Settings
from tests.api.conftest import OPERATOR_KEY, serve

if TYPE_CHECKING:
    from tests.api.conftest import Server, Tenant

Publish = Callable[..., dict[str, Any]]


def _until(ask: Callable[[], httpx.Response], status: int) -> httpx.Response:
    deadline = time.monotonic() + 20
    while (answer := ask()).status_code != status:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.02)
    return answer


def test_the_operator_limits_a_customer(server: Server, tenant: Tenant, upload: str) -> None:
    path = f"/v1/customers/{tenant.id}"
    assert server.operator.get(path).json()["limits"]["files"] is None
    changed = server.operator.patch(path, json={"limits": {"files": 1, "models": 7}}).json()
    assert (changed["limits"]["files"], changed["limits"]["models"]) == (1, 7)
    answer = tenant.http.post("/v1/files", files={"file": ("a.csv", "text,label\na,x\nb,x\nc,y\nd,y\n")})
    assert answer.status_code == 403
    error = answer.json()["error"]
    assert (error["code"], error["type"]) == ("quota_exceeded", "permission_error")
    assert error["details"] == [{"quota": "files", "limit": 1, "used": 1}]
    own = {row["name"]: row for row in tenant.http.get("/v1/limits").json()["data"]}
    assert own == {row["name"]: row for row in server.operator.get(f"{path}/limits").json()["data"]}
    assert own["files"] == {"object": "quota", "name": "files", "limit": 1, "used": 1, "default": False}
    assert own["keys"]["default"]
    # Only what is named changes; null is the default again.
    changed = server.operator.patch(path, json={"limits": {"files": None}}).json()
    assert (changed["limits"]["files"], changed["limits"]["models"]) == (None, 7)
    for wrong in ({"limits": {"files": -1}}, {"limits": {"cats": 1}}, {"suspended": "perhaps"}):
        assert server.operator.patch(path, json=wrong).status_code == 400
    assert tenant.http.patch(path, json={"suspended": True}).status_code == 403


@pytest.mark.parametrize("path", ["/v1/files", "/v1/fine_tuning/jobs"])
@pytest.mark.parametrize(("limit", "status"), [("files", 403), ("stored_bytes", 413)])
def test_what_an_upload_exceeds_is_said_before_its_body_is_read(
    server: Server, tenant: Tenant, path: str, limit: str, status: int
) -> None:
    """Before, half a gigabyte was received, and then refused for the quota."""
    room = {"files": 0, "stored_bytes": 20_000_000}[limit]
    server.operator.patch(f"/v1/customers/{tenant.id}", json={"limits": {limit: room}})
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {tenant.key}\r\ncontent-length: 30000000\r\n"
        connection.sendall(f"{head}content-type: multipart/form-data; boundary=b\r\n\r\n--b\r\n".encode())
        said = connection.recv(65536)
    assert said.startswith(b"HTTP/1.1 %d " % status)
    assert b'"quota_exceeded"' in said or b'"storage_quota_exceeded"' in said


def test_a_repeated_upload_is_answered_as_the_first_time_however_full_it_is(server: Server, tenant: Tenant) -> None:
    def post() -> httpx.Response:
        files = {"file": ("a.csv", "text,label\na,x\nb,x\nc,y\nd,y\n")}
        return tenant.http.post("/v1/files", files=files, headers={"idempotency-key": "once"})

    first = post()
    server.operator.patch(f"/v1/customers/{tenant.id}", json={"limits": {"files": 1}})
    second = post()
    assert (second.status_code, second.json()["id"]) == (200, first.json()["id"])


def test_a_quota_of_a_day_is_not_tried_again_by_the_sdk(server: Server, tenant: Tenant, upload: str) -> None:
    server.operator.patch(f"/v1/customers/{tenant.id}", json={"limits": {"jobs_per_day": 0}})
    answer = tenant.http.post("/v1/fine_tuning/jobs", json={"training_file": upload})
    assert (answer.status_code, answer.headers["x-should-retry"]) == (429, "false")
    assert answer.json()["error"]["code"] == "quota_exceeded"


def test_a_suspended_customers_keys_are_refused_by_every_process_until_it_is_resumed(
    server: Server, tenant: Tenant
) -> None:
    """Another process over the same database learns of it from the change log alone."""
    other = Settings(**{**server.settings.model_dump(), "role": "api"})
    with serve(other) as beside, httpx.Client(base_url=beside.url, headers=tenant.http.headers) as there:
        assert there.get("/v1/files").status_code == 200
        assert tenant.http.get("/v1/files").status_code == 200
        answer = server.operator.patch(f"/v1/customers/{tenant.id}", json={"suspended": True}).json()
        assert answer["suspended_at"]
        for client in (tenant.http, there):
            refused = _until(lambda client=client: client.get("/v1/files"), 403)  # type: ignore[misc]
            assert refused.json()["error"]["code"] == "customer_suspended"
        for method, path in (("POST", "/v1/models/x/predict"), ("POST", "/v1/embeddings"), ("GET", "/v1/models")):
            assert tenant.http.request(method, path).json()["error"]["code"] == "customer_suspended"
        server.operator.patch(f"/v1/customers/{tenant.id}", json={"suspended": False})
        for client in (tenant.http, there):
            _until(lambda client=client: client.get("/v1/files"), 200)  # type: ignore[misc]


def test_from_the_command_line(server: Server, tenant: Tenant) -> None:
    def graft(*words: str) -> str:
        where = {"GRAFT_SERVER": server.url, "GRAFT_ADMIN_KEY": OPERATOR_KEY}
        answer = CliRunner().invoke(app, ["customers", *words], env=where)
        return answer.output if answer.exit_code == 0 else f"refused: {answer.output}"

    assert "its own" in graft("limit", tenant.name, "files=3", "models=default")
    assert server.operator.get(f"/v1/customers/{tenant.id}").json()["limits"]["files"] == 3
    assert "Did you mean 'files'" in graft("limit", tenant.name, "fils=3").replace("\n", " ")
    assert "refused" in graft("limit", tenant.name, "files=many")
    assert "is suspended" in graft("suspend", tenant.name)
    assert "suspended" in graft("list")
    assert "works again" in graft("resume", tenant.name)


def test_an_invoice_by_day_kind_and_model(server: Server, tenant: Tenant, publish: Publish) -> None:
    publish("tickets")
    path = f"/v1/customers/{tenant.id}/usage"
    [bill] = server.operator.get(path, params={"group_by": ["kind", "model"]}).json()["data"]
    day = bill["start_time"]
    assert (day % 86_400, bill["end_time"] - day) == (0, 86_400)
    assert (bill["kind"], bill["model"]) == ("training", f"ft:minilm:{tenant.name}:tickets")
    assert (bill["requests"], bill["rows"], bill["tokens"], bill["seconds"]) == (1, 6, 60, 1.0)
    by_kind = server.operator.get(path, params={"group_by": "kind"}).json()
    assert (by_kind["data"][0]["model"], by_kind["has_more"]) == (None, False)
    own = tenant.http.get("/v1/usage", params={"bucket_width": "1d"}).json()
    assert own["data"] == [bill]
    rest = server.operator.get(path, params={"after": own["last_id"]}).json()
    assert (rest["data"], rest["has_more"]) == ([], False)
    for wrong in ({"group_by": "day"}, {"bucket_width": "1m"}, {"limit": 0}, {"start_time": 20, "end_time": 10}):
        assert server.operator.get(path, params=wrong).status_code == 400, wrong
    assert server.operator.get("/v1/customers/cus_never/usage").status_code == 404
