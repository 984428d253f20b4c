"""Event streams: how many there may be, and that many streams of one job all see the same.

Before, one key opened as many as it liked, and each looked at the database by itself several times a second.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, exc

from models.records import job_events, jobs
from models.services.resources import open_resources
from models.settings import Settings

if TYPE_CHECKING:
    from tests.api.conftest import Server, Tenant

_DEADLINE_S = 20


@pytest.fixture(scope="module")
def narrow(
    tmp_path_factory: pytest.TempPathFactory,
    broker_url: str,
    new_database: Callable[[], str],
    run_server: Callable[[Settings], AbstractContextManager[Server]],
) -> Iterator[Server]:
    """A server with two streams per key and three per customer."""
    from tests.api.conftest import make_settings

    folder = tmp_path_factory.mktemp("narrow")
    limits = {"max_streams": 3, "max_streams_per_key": 2}
    with run_server(make_settings(folder, new_database(), broker_url=broker_url, **limits)) as running:
        yield running


def _job(tenant: Tenant, table: str) -> str:
    file = tenant.http.post("/v1/files", files={"file": ("a.csv", table)}).json()
    job = tenant.http.post("/v1/fine_tuning/jobs", json={"training_file": file["id"]}).json()
    return f"/v1/fine_tuning/jobs/{job['id']}"


def test_a_key_and_a_customer_have_so_many_streams_and_no_more(narrow: Server, table: str) -> None:
    tenant = narrow.tenant("streams")
    path = _job(tenant, table) + "/events?stream=true"
    second = narrow.client(tenant.http.post("/v1/keys").json()["key"])
    with contextlib.ExitStack() as stack:
        for client in (tenant.http, tenant.http, second):
            assert stack.enter_context(client.stream("GET", path)).status_code == 200
        refused = [client.get(path) for client in (tenant.http, second)]
        assert [answer.status_code for answer in refused] == [429, 429]
        assert {answer.json()["error"]["code"] for answer in refused} == {"too_many_streams"}
        assert "This key has 2" in refused[0].json()["error"]["message"]
        assert "Your account has 3" in refused[1].json()["error"]["message"]
        assert int(refused[0].headers["retry-after"]) >= 1
        # Others are not bound by it, nor is what is no stream.
        other = narrow.tenant("others")
        with other.http.stream("GET", _job(other, table) + "/events?stream=true") as stream:
            assert stream.status_code == 200
        assert tenant.http.get(path.partition("?")[0]).status_code == 200
    deadline = time.monotonic() + _DEADLINE_S
    while True:  # who has left does not count
        with tenant.http.stream("GET", path) as stream:
            if stream.status_code == 200:
                break
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_all_streams_of_a_job_see_all_of_its_events_in_order(server: Server, tenant: Tenant, table: str) -> None:
    path = _job(tenant, table)
    job_id = path.rpartition("/")[2]
    resources = open_resources(server.settings)

    def add(texts: list[str]) -> None:
        with resources.database.transaction() as session:
            jobs.lock(session, tenant.id, job_id)
            for text in texts:
                job_events.add(session, job_id, text)

    try:
        add([f"before {number}" for number in range(250)])
        with contextlib.ExitStack() as stack:
            early = [stack.enter_context(_follow(tenant, path)) for _ in range(3)]
            seen = [_until(lines, "before 249") for lines in early]
            # More at once than the feed keeps.
            add([f"during {number}" for number in range(450)])
            seen = [[*one, *_until(lines, "during 449")] for one, lines in zip(seen, early, strict=True)]
            late = stack.enter_context(_follow(tenant, path))
            seen.append(_until(late, "during 449"))
            far_ahead = stack.enter_context(_follow(tenant, path, last="999999999999"))
            tenant.http.post(f"{path}/cancel")
            for one, lines in zip(seen, [*early, late], strict=True):
                one.extend(_until(lines, None))
            assert _until(far_ahead, None) == []
    finally:
        resources.close()
    expected = [f"before {number}" for number in range(250)] + [f"during {number}" for number in range(450)]
    for one in seen:
        assert one[1:-1] == expected
        assert one[-1] == "Job cancelled before it ran."


@pytest.mark.slow
def test_a_stream_goes_on_after_the_database_was_away(narrow: Server, table: str) -> None:
    """Before, it broke as soon as its key had to be looked up."""
    tenant = narrow.tenant("outage")
    path = _job(tenant, table)
    looked_up = 0

    def refuse(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        nonlocal looked_up
        looked_up += "FROM api_keys" in statement
        if not statement.startswith("BEGIN"):
            raise exc.OperationalError(statement, {}, ConnectionRefusedError("the server is away"))

    engine = narrow.app.state.context.resources.database.engine
    with _follow(tenant, path) as lines:
        assert next(line for line in lines if line.startswith("id: "))
        event.listen(engine, "before_cursor_execute", refuse)
        try:
            deadline = time.monotonic() + _DEADLINE_S
            while looked_up < 2:  # what is cached of the key is trusted for some seconds; then the stream asks again
                assert time.monotonic() < deadline, "the stream asked no second time"
                time.sleep(0.05)
        finally:
            event.remove(engine, "before_cursor_execute", refuse)
        tenant.http.post(f"{path}/cancel")
        assert _until(lines, None)[-1] == "Job cancelled before it ran."


@contextlib.contextmanager
def _follow(tenant: Tenant, path: str, last: str = "") -> Iterator[Iterator[str]]:
    headers = {"last-event-id": last} if last else {}
    with tenant.http.stream("GET", f"{path}/events?stream=true", headers=headers) as stream:
        assert stream.status_code == 200
        yield stream.iter_lines()


def _until(lines: Iterator[str], message: str | None) -> list[str]:
    """The messages of a stream's next events, up to one of them or to the stream's end."""
    found: list[str] = []
    for line in lines:
        if line == "data: [DONE]":
            return found
        event: Any = json.loads(line.removeprefix("data: ")) if line.startswith("data: {") else {}
        if event.get("object") == "fine_tuning.job.event":
            found.append(event["message"])
            if event["message"] == message:
                return found
    raise AssertionError("the stream ended early")
