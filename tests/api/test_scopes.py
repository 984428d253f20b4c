"""Scopes of keys. Before, a key in a web page that only asks a model could also delete it, and fetch the data."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from api.admission import CustomerRoute
from models.services.access.scopes import SCOPES

if TYPE_CHECKING:
    import httpx

    from tests.api.conftest import Server, Tenant


@pytest.fixture
def with_scopes(server: Server, tenant: Tenant) -> Callable[..., httpx.Client]:
    """Makes clients with keys of some scopes."""

    def make(*scopes: str) -> httpx.Client:
        return server.client(_issue(server, tenant, scopes)["key"])

    return make


def test_every_customers_route_declares_a_scope_and_refuses_keys_without_it(
    server: Server, with_scopes: Callable[..., httpx.Client]
) -> None:
    """The answer is 403 before the body is read, and names what is needed."""
    clients = {scope: with_scopes(scope) for scope in SCOPES}
    walked = 0
    for route in server.app.routes:
        if not isinstance(route, CustomerRoute):
            continue
        needed = route.guard.scopes
        assert needed, route.path
        assert set(needed) <= set(SCOPES), route.path
        for scope, client in clients.items():
            for method in sorted(route.methods - {"HEAD"}):
                answer = client.request(method, route.path, content=b"no JSON")
                if scope in needed:
                    assert answer.status_code != 403, (method, route.path, scope)
                    continue
                walked += 1
                error = answer.json()["error"]
                assert (answer.status_code, error["code"]) == (403, "insufficient_scope"), (method, route.path, scope)
                assert all(f"'{name}'" in error["message"] for name in needed)
                assert scope in error["message"]
    assert walked > 30


def test_the_documentation_names_the_scopes_of_a_route(server: Server) -> None:
    paths = server.anonymous.get("/openapi.json").json()["paths"]
    assert paths["/v1/models/{model}/predict"]["post"]["security"] == [{"key": ["predict"]}]
    assert paths["/v1/files"]["get"]["security"] == [{"key": ["train"]}, {"key": ["manage"]}]
    assert "x-scopes" not in paths["/v1/files"]["get"]


def test_a_key_may_do_everything_unless_less_is_asked_for(server: Server, tenant: Tenant) -> None:
    listed = server.operator.get(f"/v1/customers/{tenant.id}/keys").json()["data"]
    assert [key["scopes"] for key in listed] == [list(SCOPES)]


def test_a_rotated_key_keeps_its_scopes(server: Server, tenant: Tenant) -> None:
    key = _issue(server, tenant, ["predict"])
    rotated = server.operator.post(f"/v1/customers/{tenant.id}/keys/{key['id']}/rotate").json()
    assert rotated["scopes"] == ["predict"]


@pytest.mark.parametrize("scopes", [[], ["admin"], ["predict", 1], ["predict"] * 4, "predict"])
def test_scopes_that_do_not_exist_are_refused(server: Server, tenant: Tenant, scopes: Any) -> None:
    answer = server.operator.post(f"/v1/customers/{tenant.id}/keys", json={"scopes": scopes})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("scopes")


def test_a_key_issues_others_within_its_own_scopes(server: Server, with_scopes: Callable[..., httpx.Client]) -> None:
    manager = with_scopes("predict", "manage")
    made = manager.post("/v1/keys", json={"name": "web page", "scopes": ["predict"]}).json()
    assert made["scopes"] == ["predict"]
    assert manager.post("/v1/keys").json()["scopes"] == ["predict", "manage"]
    more = manager.post("/v1/keys", json={"scopes": ["predict", "train"]})
    assert (more.status_code, more.json()["error"]["code"]) == (403, "key_outreaches")
    assert "train" in more.json()["error"]["message"]
    # The new one cannot issue any.
    with server.client(made["key"]) as client:
        assert client.post("/v1/keys", json={"scopes": ["predict"]}).status_code == 403
    assert len(manager.get("/v1/keys").json()["data"]) == 4
    assert manager.delete(f"/v1/keys/{made['id']}").json()["revoked_at"] is not None


def test_a_key_that_ends_issues_none_that_outlives_it(server: Server, tenant: Tenant) -> None:
    """Or a key that was lent for an hour would be kept for ever."""
    ends_at = int(time.time()) + 3600
    body = {"expires_at": ends_at}
    lent = server.operator.post(f"/v1/customers/{tenant.id}/keys", json=body).json()
    with server.client(lent["key"]) as client:
        assert client.post("/v1/keys").json()["expires_at"] == ends_at
        assert client.post("/v1/keys", json={"expires_at": ends_at - 60}).json()["expires_at"] == ends_at - 60
        longer = client.post("/v1/keys", json={"expires_at": ends_at + 60})
    assert (longer.status_code, longer.json()["error"]["param"]) == (403, "expires_at")


def _issue(server: Server, tenant: Tenant, scopes: Sequence[str]) -> dict[str, Any]:
    answer = server.operator.post(f"/v1/customers/{tenant.id}/keys", json={"scopes": list(scopes)})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())
