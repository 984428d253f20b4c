"""The audit log. Before, nobody could say afterwards who revoked a key or deleted a model, and from where."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from models.records.audit import ACTIONS

if TYPE_CHECKING:
    from tests.api.conftest import Server, Tenant


def _events(server: Server, **only: Any) -> list[dict[str, Any]]:
    answer = server.operator.get("/v1/audit", params={"limit": 100, **only})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


def test_what_a_customer_does_is_on_record_with_its_key_and_address(
    server: Server, tenant: Tenant, publish: Callable[..., Any]
) -> None:
    job = publish("tickets", versions=3, wait=False)
    http = tenant.http
    assert http.put("/v1/models/tickets/aliases/live", json={"version": 2}).status_code == 200
    assert http.put("/v1/models/tickets/aliases/live", json={"version": "previous"}).status_code == 200
    assert http.put("/v1/models/tickets/aliases/test", json={"version": 1}).status_code == 200
    assert http.delete("/v1/models/tickets/aliases/test").status_code == 200
    assert http.patch("/v1/models/tickets", json={"promote": "never"}).status_code == 200
    assert http.delete("/v1/models/tickets/versions/1").status_code == 200
    second = http.post("/v1/fine_tuning/jobs", json={"training_file": job["training_file"], "suffix": "more"}).json()
    for action in ("pause", "resume", "cancel", "cancel"):  # again is no action
        assert http.post(f"/v1/fine_tuning/jobs/{second['id']}/{action}").status_code == 200
    assert http.delete("/v1/models/tickets").status_code == 200
    deleted = http.delete(f"/v1/files/{job['training_file']}", headers={"x-request-id": "the-last-one"})
    assert deleted.status_code == 200

    events = _events(server, customer=tenant.id)
    key_id = server.operator.get(f"/v1/customers/{tenant.id}/keys").json()["data"][0]["id"]
    by_customer = [event["action"] for event in reversed(events) if event["actor"] == key_id]
    assert by_customer == [
        "file.created",
        "job.created",
        "alias.moved",
        "alias.rolled_back",
        "alias.moved",
        "alias.deleted",
        "model.changed",
        "version.deleted",
        "job.created",
        "job.paused",
        "job.resumed",
        "job.cancelled",
        "model.deleted",
        "file.deleted",
    ]
    assert {event["address"] for event in events if event["actor"] == key_id} == {"127.0.0.1"}
    assert events[0]["request_id"] == "the-last-one"
    assert events[0]["target"] == job["training_file"]
    by_itself = [event["after"]["version"] for event in reversed(events) if event["actor"] == "system"]
    assert by_itself == [1, 2, 3]  # went live when they were published
    moved = next(event for event in reversed(events) if event["action"] == "alias.moved" and event["actor"] == key_id)
    assert (moved["before"], moved["after"]) == ({"version": 3}, {"version": 2})
    assert moved["target"].endswith("@live")


def test_what_the_operator_does_is_on_record_and_outlives_the_customer(server: Server, tenant: Tenant) -> None:
    path = f"/v1/customers/{tenant.id}/keys"
    issued = server.operator.post(path, json={"name": "their secret project", "scopes": ["predict"]}).json()
    rotated = server.operator.post(f"{path}/{issued['id']}/rotate").json()
    server.operator.delete(f"{path}/{rotated['id']}")
    server.operator.delete(f"{path}/{rotated['id']}")  # again is no action
    assert server.operator.delete(f"/v1/customers/{tenant.id}").status_code == 200
    answer = server.operator.get("/v1/audit", params={"customer": tenant.id})
    events = answer.json()["data"]
    assert [(event["action"], event["target"]) for event in reversed(events)] == [
        ("customer.created", tenant.id),
        ("key.created", events[-2]["target"]),
        ("key.created", issued["id"]),
        ("key.rotated", issued["id"]),
        ("key.revoked", rotated["id"]),
        ("customer.deleted", tenant.id),
    ]
    assert {event["actor"] for event in events} == {"operator"}
    assert events[0]["before"]["api_keys"] == 3
    assert events[3]["after"] == {"scopes": ["predict"]}
    # Ids alone: no names, no secrets.
    for secret in (tenant.name, "secret project", issued["key"], issued["prefix"], tenant.key):
        assert secret not in answer.text


def test_the_log_is_filtered_and_paged(server: Server, tenant: Tenant) -> None:
    for _ in range(3):
        assert tenant.http.post("/v1/keys").status_code == 200
    by_key = _events(server, customer=tenant.id, action="key.created")
    assert len(by_key) == 4
    assert [event["actor"] for event in by_key].count("operator") == 1
    mine = _events(server, actor=by_key[0]["actor"])
    assert [event["id"] for event in mine] == [event["id"] for event in by_key[:3]]
    first = _events(server, customer=tenant.id, limit=2)
    second = _events(server, customer=tenant.id, limit=2, after=first[-1]["id"])
    assert [event["id"] for event in first + second] == [event["id"] for event in by_key]
    middle = by_key[1]["created_at"]
    assert [event["id"] for event in _events(server, customer=tenant.id, since=middle)] == [
        event["id"] for event in by_key[:2]
    ]
    assert by_key[1]["id"] not in str(_events(server, customer=tenant.id, until=middle))
    wrong = server.operator.get("/v1/audit", params={"action": "everything"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "action")
    assert tenant.http.get("/v1/audit").status_code == 403


def test_no_route_changes_the_log(server: Server) -> None:
    for route in server.app.routes:
        if "audit" in getattr(route, "path", ""):
            assert getattr(route, "methods", set()) == {"GET"}


def test_an_action_that_fails_leaves_no_trace(server: Server, tenant: Tenant) -> None:
    before = len(_events(server, customer=tenant.id))
    assert tenant.http.delete("/v1/files/file-none").status_code == 404
    assert server.operator.post("/v1/customers", json={"name": tenant.name}).status_code == 409
    assert len(_events(server, customer=tenant.id)) == before


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_can_be_asked_for(server: Server, action: str) -> None:
    assert server.operator.get("/v1/audit", params={"action": action, "limit": 1}).status_code == 200
