from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from models.settings import Settings

if TYPE_CHECKING:
    from tests.api.conftest import Server, Tenant


def test_the_operator_creates_lists_and_reads_customers(server: Server) -> None:
    body = {"name": "reads-customers", "metadata": {"plan": "pro"}}
    created = server.operator.post("/v1/customers", json=body).json()
    assert (created["object"], created["name"], created["metadata"]) == ("customer", "reads-customers", {"plan": "pro"})
    assert server.operator.get(f"/v1/customers/{created['id']}").json() == created
    listed = server.operator.get("/v1/customers", params={"limit": 1}).json()
    assert (listed["object"], listed["data"][0]["id"]) == ("list", created["id"])
    again = server.operator.post("/v1/customers", json=body)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "name_taken")
    missing = server.operator.get("/v1/customers/cus_none")
    assert missing.status_code == 404


@pytest.mark.parametrize("name", ["", "Acme", "a b", "-a", "a:b", "x" * 65, "a/b"])
def test_names_that_cannot_stand_in_a_model_name_are_refused(server: Server, name: str) -> None:
    answer = server.operator.post("/v1/customers", json={"name": name})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "name")


def test_what_is_wrong_with_a_key_that_is_asked_for_is_named(server: Server, tenant: Tenant) -> None:
    path = f"/v1/customers/{tenant.id}/keys"
    for body, message in (
        ({"name": "a\nb"}, "name: must not be blank or hold control characters."),
        ({"name": " "}, "name: must not be blank or hold control characters."),
        ({"expires_at": 1}, "expires_at is 1, and it is "),
    ):
        answer = server.operator.post(path, json=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (400, next(iter(body)))
        assert error["message"].startswith(message)


def test_a_repeated_issue_makes_one_key_and_shows_its_secret_once(server: Server, tenant: Tenant) -> None:
    path, headers = f"/v1/customers/{tenant.id}/keys", {"idempotency-key": "issue-1"}
    first = server.operator.post(path, json={"name": "b"}, headers=headers).json()
    again = server.operator.post(path, json={"name": "b"}, headers=headers).json()
    assert first["key"].startswith("gr-")
    assert again == {**first, "key": None}
    assert len(server.operator.get(path).json()["data"]) == 2


def test_deleting_a_customer_says_what_went_and_ends_its_access(server: Server, tenant: Tenant, upload: str) -> None:
    tenant.openai.fine_tuning.jobs.create(training_file=upload, model="minilm", suffix="gone")
    answer = server.operator.delete(f"/v1/customers/{tenant.id}").json()
    assert (answer["deleted"], answer["id"], answer["complete"]) == (True, tenant.id, True)
    removed = answer["removed"]
    assert (removed["files"], removed["jobs"], removed["api_keys"], removed["customers"]) == (1, 1, 1, 1)
    assert removed["objects"] == 1
    assert server.operator.get(f"/v1/customers/{tenant.id}").status_code == 404
    deadline = time.monotonic() + 10
    while tenant.http.get("/v1/files").status_code != 401:
        assert time.monotonic() < deadline, "the deleted customer's key still works"
        time.sleep(0.05)


def test_a_deletion_says_when_objects_are_still_to_go(
    settings_for: Callable[..., Settings], run_server: Callable[[Settings], AbstractContextManager[Server]]
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        settings = settings_for(
            object_store="s3://bucket/graft",
            s3_endpoint_url=f"http://127.0.0.1:{probe.getsockname()[1]}",  # bound, nobody listens
            s3_access_key_id=SecretStr("id"),
            s3_secret_access_key=SecretStr("secret"),
        )
        with run_server(settings) as server:
            tenant = server.tenant("acme")
            answer = server.operator.delete(f"/v1/customers/{tenant.id}").json()
            assert (answer["deleted"], answer["complete"], answer["removed"]["objects"]) == (True, False, 0)
            assert server.operator.get(f"/v1/customers/{tenant.id}").status_code == 404
