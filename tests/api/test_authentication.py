from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import openai
import pytest

from models.settings import Settings

if TYPE_CHECKING:
    from tests.api.conftest import Server, Tenant


def test_without_a_key_the_sdk_raises_its_authentication_error(server: Server) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        server.sdk("gr-never-issued").files.list()
    assert caught.value.status_code == 401
    assert caught.value.type == "authentication_error"
    assert "Incorrect API key" in caught.value.message


@pytest.mark.parametrize("header", ["", "Bearer", "Basic Zm9v", "gr-abc"])
def test_anything_but_a_bearer_token_is_told_how_to_send_one(server: Server, header: str) -> None:
    answer = server.anonymous.get("/v1/files", headers={"authorization": header} if header else {})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "no_key"
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_customers_key_is_refused_on_the_operators_routes(server: Server, tenant: Tenant) -> None:
    answer = tenant.http.get("/v1/customers")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "operator_only")
    with pytest.raises(openai.PermissionDeniedError):
        tenant.openai.get("/customers", cast_to=object)


def test_the_operators_key_is_refused_on_a_customers_routes_with_a_hint(server: Server) -> None:
    answer = server.operator.get("/v1/files")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "customer_only")
    assert "/v1/customers/{id}/keys" in answer.json()["error"]["message"]


def test_a_revoked_key_is_dead_within_seconds_and_says_so(server: Server, tenant: Tenant) -> None:
    assert tenant.http.get("/v1/files").status_code == 200
    key_id = server.operator.get(f"/v1/customers/{tenant.id}/keys").json()["data"][0]["id"]
    revoked = server.operator.delete(f"/v1/customers/{tenant.id}/keys/{key_id}")
    assert revoked.json()["revoked_at"] is not None
    answer = _wait_for_refusal(tenant)
    assert "revoked" in answer["message"]


def test_an_expired_key_says_that_it_expired(server: Server, tenant: Tenant) -> None:
    body = {"name": "short", "expires_at": time.time() + 1.5}
    issued = server.operator.post(f"/v1/customers/{tenant.id}/keys", json=body).json()
    with server.client(issued["key"]) as client:
        deadline = time.monotonic() + 10
        while (answer := client.get("/v1/files")).status_code == 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert answer.status_code == 401
    assert "expired" in answer.json()["error"]["message"]


def test_rotation_keeps_the_old_key_for_the_grace_and_issues_a_new_one(server: Server, tenant: Tenant) -> None:
    path = f"/v1/customers/{tenant.id}/keys"
    old = server.operator.get(path).json()["data"][0]
    new = server.operator.post(f"{path}/{old['id']}/rotate", json={"grace_seconds": 60}).json()
    assert new["id"] != old["id"]
    with server.client(new["key"]) as client:
        assert client.get("/v1/files").status_code == 200
    assert tenant.http.get("/v1/files").status_code == 200
    again = server.operator.post(f"{path}/{new['id']}/rotate").json()
    with server.client(again["key"]) as client:
        assert client.get("/v1/files").status_code == 200


def test_an_address_that_guesses_keys_is_refused_and_keys_in_use_go_on(
    settings_for: Callable[..., Settings], run_server: Callable[..., AbstractContextManager[Server]]
) -> None:
    """Before, every guess was a search in the database, as many as a client could send.

    No window of a year ends while the test runs.
    """
    with run_server(settings_for(failed_logins="5/year")) as server:
        tenant = server.tenant("acme")
        assert tenant.http.get("/v1/files").status_code == 200
        seen = []
        for number in range(8):
            with server.client(f"gr-guess-{number}") as client:
                answer = client.get("/v1/files")
            seen.append(answer.status_code)
        assert seen == [401] * 5 + [429] * 3
        assert int(answer.headers["retry-after"]) >= 1
        assert tenant.http.get("/v1/files").status_code == 200
        assert server.operator.get("/v1/customers").status_code == 200


def test_metrics_ask_for_their_token_where_there_is_one(
    settings_for: Callable[..., Settings], run_server: Callable[..., AbstractContextManager[Server]]
) -> None:
    """Before, anybody who reached the API read how much its customers do."""
    with run_server(settings_for(metrics_token="scrape-me")) as server:
        for key, status in ((None, 401), ("scrape-you", 401), ("scrape-me", 200)):
            with server.client(key) as client:
                answer = client.get("/metrics")
            assert answer.status_code == status
            assert ("graft_http_requests" in answer.text) == (status == 200)
        assert server.anonymous.get("/readyz").status_code == 200


def test_lists_of_keys_never_hold_secrets(server: Server, tenant: Tenant) -> None:
    listed = server.operator.get(f"/v1/customers/{tenant.id}/keys").text
    assert tenant.key not in listed
    assert '"key"' not in listed


def _wait_for_refusal(tenant: Tenant) -> dict[str, str]:
    deadline = time.monotonic() + 10
    while (answer := tenant.http.get("/v1/files")).status_code == 200:
        assert time.monotonic() < deadline, "the key still works"
        time.sleep(0.05)
    assert answer.status_code == 401
    return dict(answer.json()["error"])
