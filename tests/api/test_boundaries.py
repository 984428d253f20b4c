"""A walk over every route: without a key, with a foreign customer's ids, with the wrong kind of key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx

from api.admission import CustomerRoute, OperatorRoute

if TYPE_CHECKING:
    from tests.api.conftest import Server, Tenant

_OPEN = {"/", "/healthz", "/readyz", "/metrics", "/docs", "/docs/oauth2-redirect", "/openapi.json"}
_BODIES: dict[tuple[str, str], Any] = {
    ("PATCH", "/v1/models/{model}"): {"promote": "auto"},
    ("PUT", "/v1/models/{model}/aliases/{alias}"): {"version": 1},
    ("POST", "/v1/models/{model}/predict"): {"input": "x"},
}


def _routes(server: Server) -> Iterator[tuple[str, str, type]]:
    for route in server.app.routes:
        for method in sorted(getattr(route, "methods", None) or set()):
            if method != "HEAD":
                yield method, getattr(route, "path", ""), type(route)


def test_every_route_is_open_a_customers_or_the_operators(server: Server) -> None:
    for method, path, kind in _routes(server):
        guarded = issubclass(kind, CustomerRoute | OperatorRoute)
        assert guarded != (path in _OPEN), f"{method} {path}"


def test_without_a_key_every_guarded_route_answers_401(server: Server) -> None:
    walked = 0
    for method, path, _ in _routes(server):
        if path in _OPEN:
            continue
        walked += 1
        for headers in ({}, {"authorization": "Bearer gr-never-issued"}):
            answer = server.anonymous.request(method, path, headers=headers)
            assert answer.status_code == 401, f"{method} {path}"
            assert answer.json()["error"]["type"] == "authentication_error"
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.headers["x-request-id"]
    assert walked > 25


def test_the_wrong_kind_of_key_is_403_on_every_route(server: Server, tenant: Tenant) -> None:
    for method, path, kind in _routes(server):
        if path in _OPEN:
            continue
        client = tenant.http if issubclass(kind, OperatorRoute) else server.operator
        answer = client.request(method, path)
        assert answer.status_code == 403, f"{method} {path}"
        assert answer.json()["error"]["type"] == "permission_error"


def test_a_foreign_customers_things_do_not_exist(server: Server, tenant: Tenant, upload: str) -> None:
    owner = tenant
    job = owner.http.post("/v1/fine_tuning/jobs", json={"training_file": upload, "suffix": "secret-model"}).json()
    stranger = server.tenant(f"{owner.name}-stranger")
    key_id = server.operator.get(f"/v1/customers/{owner.id}/keys").json()["data"][0]["id"]
    theirs = {"file_id": upload, "job_id": job["id"], "key_id": key_id, "model": "secret-model", "alias": "live"}
    full_name = {**theirs, "model": f"ft:minilm:{owner.name}:secret-model"}
    nothing = {"file_id": "file-" + "0" * 24, "job_id": "ftjob-" + "0" * 24, "key_id": "key_" + "0" * 24}
    never = {**nothing, "model": "never-was", "alias": "live"}
    walked = 0
    for method, path, kind in _routes(server):
        if not issubclass(kind, CustomerRoute) or "{" not in path:
            continue
        walked += 1
        answers = [_call(stranger, method, path, ids) for ids in (theirs, full_name, never)]
        for answer, ids in zip(answers, (theirs, full_name, never), strict=True):
            assert answer.status_code == 404, f"{method} {path}: {answer.text}"
            answer_without_id = _without(answer.text, ids)
            assert answer_without_id == _without(answers[-1].text, never), f"{method} {path}"
    assert walked >= 15
    # Nothing of the owner's has changed.
    assert owner.http.get(f"/v1/fine_tuning/jobs/{job['id']}").json()["status"] == "queued"
    assert owner.http.get(f"/v1/files/{upload}").status_code == 200


def test_foreign_ids_in_bodies_and_cursors_do_not_exist_either(server: Server, tenant: Tenant, upload: str) -> None:
    job = tenant.http.post("/v1/fine_tuning/jobs", json={"training_file": upload, "suffix": "mine"}).json()
    stranger = server.tenant(f"{tenant.name}-stranger")
    own = stranger.http.post("/v1/files", files={"file": ("a.csv", "text,label\na,x\nb,x\nc,y\nd,y\n")}).json()["id"]
    for body, foreign in (
        ({"training_file": upload}, upload),
        ({"training_file": own, "validation_file": upload}, upload),
        ({"training_file": own, "unlabeled_file": upload}, upload),
    ):
        answer = stranger.http.post("/v1/fine_tuning/jobs", json=body)
        never = stranger.http.post("/v1/fine_tuning/jobs", json={**body, _key_of(body, foreign): "file-none"})
        assert (answer.status_code, never.status_code) == (404, 404)
        assert answer.text.replace(foreign, "ID") == never.text.replace("file-none", "ID")
    for path, cursor in (
        ("/v1/files", upload),
        ("/v1/fine_tuning/jobs", job["id"]),
        ("/v1/models", f"ft:minilm:{tenant.name}:mine"),
    ):
        answer = stranger.http.get(path, params={"after": cursor})
        never = stranger.http.get(path, params={"after": "never"})
        assert (answer.status_code, never.status_code) == (404, 404), path
        assert answer.text.replace(cursor, "ID") == never.text.replace("never", "ID")
    body = {"model": f"ft:minilm:{tenant.name}:mine", "messages": [{"role": "user", "content": "x"}]}
    assert stranger.http.post("/v1/chat/completions", json=body).status_code == 404


def test_the_operators_routes_do_not_mix_customers_up(server: Server, tenant: Tenant) -> None:
    stranger = server.tenant(f"{tenant.name}-stranger")
    key_id = server.operator.get(f"/v1/customers/{tenant.id}/keys").json()["data"][0]["id"]
    for method, suffix in (("POST", "/rotate"), ("DELETE", "")):
        answer = server.operator.request(method, f"/v1/customers/{stranger.id}/keys/{key_id}{suffix}")
        assert answer.status_code == 404
    assert tenant.http.get("/v1/files").status_code == 200


def _call(tenant: Tenant, method: str, path: str, ids: dict[str, str]) -> httpx.Response:
    body = _BODIES.get((method, path))
    return tenant.http.request(method, path.format(**ids, version=1), json=body)


def _without(text: str, ids: dict[str, str]) -> str:
    for value in sorted(ids.values(), key=len, reverse=True):
        text = text.replace(value, "ID")
    return text


def _key_of(body: dict[str, str], value: str) -> str:
    return next(name for name, item in body.items() if item == value)
