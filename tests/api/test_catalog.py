from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import openai
import pytest

from models.settings import Settings

if TYPE_CHECKING:
    from tests.api.conftest import Server, Tenant

Publish = Callable[..., dict[str, Any]]


def test_the_sdk_lists_reads_and_deletes_models(tenant: Tenant, publish: Publish) -> None:
    job = publish("tickets")
    full = f"ft:minilm:{tenant.name}:tickets"
    assert job["fine_tuned_model"] == full
    listed = [model.id for model in tenant.openai.models.list()]
    assert listed[0] == "minilm"
    assert listed[-1] == full
    base = tenant.openai.models.retrieve("minilm")
    assert base.owned_by == "graft"
    assert base.model_dump()["max_tokens"] == 256
    for name in ("tickets", full):
        model = tenant.openai.models.retrieve(name)
        assert (model.id, model.owned_by) == (full, tenant.name)
        assert model.model_dump()["version"] == 1
    pinned = tenant.openai.models.retrieve(f"{full}@1")
    assert (pinned.id, pinned.model_dump()["version"]) == (full, 1)
    with pytest.raises(openai.NotFoundError):
        tenant.openai.models.retrieve(f"{full}@2")
    assert tenant.openai.models.delete(full).deleted
    with pytest.raises(openai.NotFoundError):
        tenant.openai.models.retrieve(full)
    with pytest.raises(openai.NotFoundError):
        tenant.openai.models.delete("minilm")
    for send in (tenant.http.delete, lambda url: tenant.http.patch(url, json={"promote": "never"})):
        refused = send("/v1/models/minilm")
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "base_model_is_operators")
        assert "'minilm' is a base model and belongs to the operator" in refused.json()["error"]["message"]


def test_models_page_from_the_bases_to_the_own(tenant: Tenant, publish: Publish) -> None:
    for suffix in ("one", "two", "three"):
        publish(suffix)
    seen: list[str] = []
    after = None
    while True:
        params = {"limit": 1} | ({"after": after} if after else {})
        page = tenant.http.get("/v1/models", params=params).json()
        seen += [model["id"] for model in page["data"]]
        if not page["has_more"]:
            break
        after = page["last_id"]
    own = [f"ft:minilm:{tenant.name}:{suffix}" for suffix in ("three", "two", "one")]
    assert seen == ["minilm", "smollm2", "mobilenet-v2", *own]


def test_versions_are_promoted_and_rolled_back(tenant: Tenant, publish: Publish) -> None:
    job = publish("tickets", versions=3)
    path = "/v1/models/tickets"
    versions = tenant.http.get(f"{path}/versions").json()["data"]
    assert [(version["version"], version["live"]) for version in versions] == [(3, True), (2, False), (1, False)]
    assert versions[0]["job"] == job["id"]
    paged = tenant.http.get(f"{path}/versions", params={"limit": 2, "after": versions[0]["id"]}).json()
    assert [version["version"] for version in paged["data"]] == [2, 1]
    checkpoints = list(tenant.openai.fine_tuning.jobs.checkpoints.list(job["id"], limit=2))
    assert [point.fine_tuned_model_checkpoint for point in checkpoints] == [
        f"ft:minilm:{tenant.name}:tickets@{number}" for number in (3, 2, 1)
    ]
    assert checkpoints[0].metrics.model_dump()["score"] == pytest.approx(0.53)
    moved = tenant.http.put(f"{path}/aliases/live", json={"version": 1}).json()
    assert (moved["id"], moved["version"], moved["previous"]) == ("live", 1, 3)
    _wait_for_version(tenant, 1)
    back = tenant.http.put(f"{path}/aliases/live", json={"version": "previous"}).json()
    assert (back["version"], back["previous"]) == (3, 2)
    _wait_for_version(tenant, 3)
    back = tenant.http.put(f"{path}/aliases/live", json={"version": "previous"}).json()
    assert (back["version"], back["previous"]) == (2, 1)
    tenant.http.put(f"{path}/aliases/live", json={"version": 3})
    tenant.http.put(f"{path}/aliases/canary", json={"version": 2})
    answer = tenant.http.post(f"{path}@canary/predict", json={"input": "x"})
    assert answer.json()["version"] == 2
    aliases = tenant.http.get(f"{path}/aliases").json()["data"]
    assert {alias["id"]: alias["version"] for alias in aliases} == {"live": 3, "canary": 2}


@pytest.mark.parametrize(
    ("alias", "body", "status", "param"),
    [
        ("live", {"version": 9}, 404, "version"),
        ("live", {"version": 0}, 404, "version"),
        ("live", {"version": "next"}, 400, "version"),
        ("live", {}, 400, "version"),
        ("live", {"number": 1}, 400, "number"),
        ("7", {"version": 1}, 400, "alias"),
        ("Not-A-Name", {"version": 1}, 400, "alias"),
        ("live", {"version": "previous"}, 409, None),
        ("canary", {"version": "previous"}, 404, "alias"),
    ],
)
def test_wrong_aliases_are_named(
    tenant: Tenant, publish: Publish, alias: str, body: dict[str, object], status: int, param: str | None
) -> None:
    publish("tickets")
    answer = tenant.http.put(f"/v1/models/tickets/aliases/{alias}", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text


def test_a_model_in_the_making_cannot_be_deleted(tenant: Tenant, publish: Publish, upload: str) -> None:
    publish("tickets")
    job = tenant.http.post("/v1/fine_tuning/jobs", json={"training_file": upload, "suffix": "tickets"}).json()
    with pytest.raises(openai.ConflictError):
        tenant.openai.models.delete("tickets")
    tenant.openai.fine_tuning.jobs.cancel(job["id"])
    assert tenant.openai.models.delete("tickets").deleted


def test_every_answer_after_a_promotion_is_the_new_versions(
    run_server: Callable[[Settings], AbstractContextManager[Server]],
    settings_for: Callable[..., Settings],
    publish_at: Callable[..., dict[str, Any]],
) -> None:
    # Slow to ask what others changed: what this process changed itself it knows at once.
    with run_server(settings_for(role="all", directory_poll_s=3600.0)) as server:
        tenant = server.tenant("acme")
        publish_at(server, tenant, "tickets", versions=3)
        path = "/v1/models/tickets"
        assert tenant.http.post(f"{path}/predict", json={"input": "x"}).json()["version"] == 3
        for asked, answers in ((1, 1), (2, 2), ("previous", 1), ("previous", 3)):
            tenant.http.put(f"{path}/aliases/live", json={"version": asked})
            versions = {tenant.http.post(f"{path}/predict", json={"input": "x"}).json()["version"] for _ in range(5)}
            assert versions == {answers}
        tenant.http.put(f"{path}/aliases/canary", json={"version": 1})
        assert tenant.http.post(f"{path}@canary/predict", json={"input": "x"}).status_code == 200
        tenant.http.delete(f"{path}/aliases/canary")
        assert tenant.http.post(f"{path}@canary/predict", json={"input": "x"}).status_code == 404


def test_versions_and_aliases_are_deleted(tenant: Tenant, publish: Publish) -> None:
    publish("tickets", versions=3)
    path = "/v1/models/tickets"
    tenant.http.put(f"{path}/aliases/canary", json={"version": 2})
    for target, words in (
        ("versions/3", "Promote another version first"),
        ("versions/2", "'canary' points at it. Move or delete the alias first"),
        ("aliases/live", "Promote another version, or delete the model"),
    ):
        refused = tenant.http.delete(f"{path}/{target}")
        assert refused.status_code == 409, refused.text
        assert words in refused.json()["error"]["message"]
    assert tenant.http.delete(f"{path}/aliases/canary").json()["deleted"]
    assert tenant.http.delete(f"{path}/versions/2").json()["deleted"]
    for target in ("aliases/canary", "versions/2", "versions/9"):
        assert tenant.http.delete(f"{path}/{target}").status_code == 404
    assert [version["version"] for version in tenant.http.get(f"{path}/versions").json()["data"]] == [3, 1]
    # What was deleted is not gone back to.
    back = tenant.http.put(f"{path}/aliases/live", json={"version": "previous"}).json()
    assert (back["version"], back["previous"]) == (1, None)
    publish("tickets", wait=False)
    assert tenant.http.get(f"{path}/versions").json()["data"][0]["version"] == 4


def _wait_for_version(tenant: Tenant, version: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        answer = tenant.http.post("/v1/models/tickets/predict", json={"input": "x"}).json()
        if answer["version"] == version:
            return
        assert time.monotonic() < deadline, f"version {answer['version']} still answers"
        time.sleep(0.05)
