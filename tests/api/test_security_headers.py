"""What answers tell browsers and caches: before, nothing; a page of any site could frame /docs or guess types."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import pytest

from models.settings import Settings

if TYPE_CHECKING:
    from tests.api.conftest import Server, Tenant

_APP = "https://app.example.com"


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/v1/files", "/v1/nothing", "/metrics", "/healthz"])
def test_every_answer_has_the_headers_once(server: Server, path: str) -> None:
    headers = server.anonymous.get(path).headers
    assert headers.get_list("x-content-type-options") == ["nosniff"]
    assert headers.get_list("x-frame-options") == ["DENY"]
    assert headers.get_list("referrer-policy") == ["no-referrer"]
    (policy,) = headers.get_list("content-security-policy")
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert ("script-src" in policy) == (path == "/docs")


def test_a_downloaded_file_has_its_own_header_once(tenant: Tenant, upload: str) -> None:
    headers = tenant.http.get(f"/v1/files/{upload}/content").headers
    assert headers.get_list("x-content-type-options") == ["nosniff"]


def test_the_documentation_loads_nothing_that_its_policy_forbids(server: Server) -> None:
    answer = server.anonymous.get("/docs")
    policy = answer.headers["content-security-policy"]
    assert "<script>" in answer.text  # the script in the page, which starts Swagger UI
    assert "script-src 'self' 'unsafe-inline'" in policy
    assert "connect-src 'self'" in policy  # /openapi.json, and what is tried out
    assert "//" not in policy
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert f"/docs/assets/{asset}" in answer.text


def test_an_answer_with_a_key_is_kept_by_no_cache(server: Server, tenant: Tenant) -> None:
    path = f"/v1/customers/{tenant.id}/keys"
    issued = server.operator.post(path)
    rotated = server.operator.post(f"{path}/{issued.json()['id']}/rotate")
    assert [answer.headers["cache-control"] for answer in (issued, rotated)] == ["no-store", "no-store"]


def test_pages_of_other_origins_may_not_call_unless_the_operator_names_them(
    server: Server, settings_for: Callable[..., Settings], run_server: Callable[..., AbstractContextManager[Server]]
) -> None:
    preflight = {
        "origin": _APP,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type, x-stainless-lang",
    }
    assert "access-control-allow-origin" not in server.anonymous.options("/v1/files", headers=preflight).headers
    with run_server(settings_for(cors_origins=f"{_APP}, https://other.example.com")) as open_server:
        allowed = open_server.anonymous.options("/v1/files", headers=preflight)
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == _APP
        assert "authorization" in allowed.headers["access-control-allow-headers"].lower()
        refused = open_server.anonymous.get("/v1/files", headers={"origin": _APP})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, _APP)
        stranger = open_server.anonymous.get("/v1/files", headers={"origin": "https://evil.example.com"})
        assert "access-control-allow-origin" not in stranger.headers
