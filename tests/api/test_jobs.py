from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

from api.schemas.jobs import checkpoint_object
from models.errors import JobError
from models.records.versions import ModelVersion
from models.services import claims
from models.services.resources import open_resources
from tests.claiming import claim as claim_job

if TYPE_CHECKING:
    from tests.api.conftest import Server, Tenant


def _point(step: int, train_loss: float, held: float | None = None) -> dict[str, Any]:
    return {"step": step, "train_loss": train_loss} | ({} if held is None else {"validation_loss": held})


@pytest.mark.parametrize(
    ("report", "step", "train_loss", "valid_loss"),
    [
        # The version has the weights of the step with the lowest held-out loss.
        ({"loss_curve": [_point(1, 0.9), _point(2, 0.7, 0.6), _point(3, 0.4), _point(4, 0.3, 0.8)]}, 2, 0.7, 0.6),
        ({"loss_curve": [_point(1, 0.9), _point(2, 0.7)]}, 2, 0.7, None),  # of a detector
        ({}, None, None, None),  # a prompt, or a head
    ],
)
def test_a_checkpoint_has_the_losses_of_its_step(
    report: dict[str, Any], step: int | None, train_loss: float | None, valid_loss: float | None
) -> None:
    version = ModelVersion(
        id="ftckpt-1",
        job_id="ftjob-1",
        number=2,
        candidate="dpo",
        metrics={"score": 0.75},
        report=report,
        created_at=1.0,
    )
    read = FineTuningJobCheckpoint.model_validate(checkpoint_object(version, "ft:tiny:acme:x").model_dump())
    found = read.metrics
    assert (found.step, found.train_loss, found.valid_loss) == (step, train_loss, valid_loss)
    assert found.model_dump()["score"] == 0.75


def test_the_sdk_creates_retrieves_and_cancels_a_job(tenant: Tenant, upload: str) -> None:
    jobs = tenant.openai.fine_tuning.jobs
    job = jobs.create(
        training_file=upload,
        validation_file=upload,
        model="minilm",
        suffix="tickets",
        seed=7,
        metadata={"team": "support"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3, "batch_size": "auto"}}},
    )
    assert (job.object, job.status, job.model, job.seed) == ("fine_tuning.job", "queued", "minilm", 7)
    assert (job.training_file, job.validation_file, job.organization_id) == (upload, upload, tenant.id)
    assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size) == (3, "auto")
    assert job.method is not None
    assert job.method.type == "supervised"
    assert (job.fine_tuned_model, job.finished_at, job.error, job.trained_tokens) == (None, None, None, None)
    assert (job.result_files, job.integrations, job.metadata) == ([], [], {"team": "support"})
    assert job.model_dump()["task"] == "text-classification"
    assert jobs.retrieve(job.id) == job
    assert jobs.cancel(job.id).status == "cancelled"
    assert [event.level for event in jobs.list_events(job.id)] == ["info", "info"]
    assert list(jobs.checkpoints.list(job.id)) == []


def test_a_list_refuses_a_filter_that_it_does_not_have(server: Server, tenant: Tenant) -> None:
    """All jobs came, as if they had been filtered."""
    for client, path, name in (
        (tenant.http, "/v1/fine_tuning/jobs", "model"),
        (tenant.http, "/v1/fine_tuning/jobs", "order"),
        (tenant.http, "/v1/files", "metadata[team]"),
        (tenant.http, "/v1/models", "purpose"),
        (tenant.http, "/v1/keys", "order"),
        (server.operator, "/v1/customers", "name"),
    ):
        answer = client.get(path, params={"limit": 2, name: "x"})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_query", name)
    misspelt = tenant.http.get("/v1/fine_tuning/jobs", params={"sufix": "tickets"}).json()["error"]
    assert misspelt["message"] == "Unknown query parameter 'sufix'. Did you mean 'suffix'?"
    known = {"limit": 2, "status": ["queued", "failed"], "metadata[a]": "b", "metadata[c]": "d"}
    assert tenant.http.get("/v1/fine_tuning/jobs", params=known).status_code == 200
    assert list(tenant.openai.fine_tuning.jobs.list(limit=2, metadata={"team": "none"})) == []


def test_a_list_without_pages_refuses_every_filter(
    server: Server, tenant: Tenant, publish: Callable[..., dict[str, Any]]
) -> None:
    publish("tickets")
    for client, path in (
        (tenant.http, "/v1/models/tickets/aliases"),
        (tenant.http, "/v1/limits"),
        (server.operator, f"/v1/customers/{tenant.id}/limits"),
    ):
        assert client.get(path).status_code == 200
        answer = client.get(path, params={"limit": 2})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_query", "limit")
        assert error["message"] == "Unknown query parameter 'limit'. This list takes none."


def test_the_sdk_pauses_and_resumes(tenant: Tenant, upload: str) -> None:
    jobs = tenant.openai.fine_tuning.jobs
    job = jobs.create(training_file=upload, model="minilm")
    assert jobs.pause(job.id).status == "paused"
    assert jobs.resume(job.id).status == "queued"
    jobs.cancel(job.id)
    with pytest.raises(openai.BadRequestError):
        jobs.pause(job.id)


def test_strategy_may_come_as_a_method_or_by_itself(tenant: Tenant, upload: str) -> None:
    create = tenant.openai.fine_tuning.jobs.create
    by_field = create(training_file=upload, model="minilm", suffix="a", extra_body={"strategy": "head"})
    by_method = create(
        training_file=upload,
        model="minilm",
        suffix="b",
        method={"type": "zero-shot"},  # type: ignore[typeddict-item]
    )
    assert by_field.model_dump()["strategy"] == "head"
    assert by_method.model_dump()["strategy"] == "zero-shot"
    assert create(training_file=upload, model="minilm", suffix="c").model_dump()["strategy"] == "auto"


def test_the_sdk_pages_through_jobs_and_filters_by_metadata(tenant: Tenant, upload: str) -> None:
    jobs = tenant.openai.fine_tuning.jobs
    made = [
        jobs.create(training_file=upload, model="minilm", suffix=f"m{n}", metadata={"odd": str(n % 2)}).id
        for n in range(5)
    ]
    assert [job.id for job in jobs.list(limit=2)] == made[::-1]
    odd = tenant.http.get("/v1/fine_tuning/jobs", params={"metadata[odd]": "1"}).json()
    assert [job["id"] for job in odd["data"]] == [made[3], made[1]]
    assert odd["has_more"] is False


def test_the_sdk_pages_through_events(tenant: Tenant, upload: str) -> None:
    jobs = tenant.openai.fine_tuning.jobs
    job = jobs.create(training_file=upload, model="minilm")
    for _ in range(3):
        jobs.pause(job.id)
        jobs.resume(job.id)
    paged = [event.id for event in jobs.list_events(job.id, limit=2)]
    assert len(paged) == 7
    assert len(set(paged)) == 7


def test_one_form_with_the_file_starts_a_job(tenant: Tenant, table: str) -> None:
    form = {
        "suffix": "tickets",
        "seed": "11",
        "strategy": "head",
        "hyperparameters": json.dumps({"n_epochs": 2, "lexical": False}),
        "metadata": json.dumps({"a": "b"}),
    }
    answer = tenant.http.post("/v1/fine_tuning/jobs", files={"file": ("t.csv", table)}, data=form)
    assert answer.status_code == 200, answer.text
    job = answer.json()
    assert (job["suffix"], job["seed"], job["strategy"]) == ("tickets", 11, "head")
    assert (job["hyperparameters"]["n_epochs"], job["metadata"]) == (2, {"a": "b"})
    assert job["hyperparameters"]["lexical"] is False
    assert tenant.http.get(f"/v1/files/{job['training_file']}").json()["filename"] == "t.csv"


def test_a_form_without_a_suffix_names_the_model_after_the_file(tenant: Tenant, table: str) -> None:
    answer = tenant.http.post("/v1/fine_tuning/jobs", files={"file": ("My Tickets.csv", table)})
    assert answer.json()["suffix"] == "my-tickets"


def test_a_refused_form_leaves_no_file(tenant: Tenant, table: str) -> None:
    refused = tenant.http.post("/v1/fine_tuning/jobs", files={"file": ("t.csv", table)}, data={"suffix": "NOT a name"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "suffix")
    assert tenant.http.get("/v1/files").json()["data"] == []


def test_rows_may_come_in_the_request(tenant: Tenant) -> None:
    rows = [{"text": f"{word} {n}", "label": word} for word in ("yes", "no") for n in range(3)]
    answer = tenant.http.post("/v1/fine_tuning/jobs", json={"training_data": rows, "suffix": "answers"})
    assert answer.status_code == 200, answer.text
    file = tenant.http.get(f"/v1/files/{answer.json()['training_file']}").json()
    assert (file["rows"], file["labels"]) == (6, {"yes": 3, "no": 3})
    bad = tenant.http.post("/v1/fine_tuning/jobs", json={"training_data": [{"text": "a", "label": "x"}, {"text": ""}]})
    assert bad.status_code == 400
    assert bad.json()["error"]["details"]


@pytest.mark.parametrize(
    ("body", "param", "status"),
    [
        ({"training_file": "file-none"}, "training_file", 404),
        ({"model": "minilmm"}, "model", 400),
        ({"suffix": "Not A Name"}, "suffix", 400),
        ({"suffix": "minilm"}, "suffix", 409),
        ({"task": "text-regression"}, "task", 400),
    ],
)
def test_what_does_not_fit_is_named(tenant: Tenant, upload: str, body: dict[str, str], param: str, status: int) -> None:
    answer = tenant.http.post("/v1/fine_tuning/jobs", json={"training_file": upload, **body})
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text


def test_one_idempotency_key_is_one_job(tenant: Tenant, upload: str) -> None:
    def post(**body: object) -> httpx.Response:
        sent = {"training_file": upload, "suffix": "once", **body}
        return tenant.http.post("/v1/fine_tuning/jobs", json=sent, headers={"idempotency-key": "k1"})

    first, again, other = post(), post(), post(seed=3)
    assert first.status_code == again.status_code == 200
    assert first.json() == again.json()
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_mismatch")
    assert other.headers["x-should-retry"] == "false"
    assert len(tenant.http.get("/v1/fine_tuning/jobs").json()["data"]) == 1


def test_a_refused_request_does_not_use_its_key_up(tenant: Tenant, upload: str) -> None:
    headers = {"idempotency-key": "k2"}
    body = {"training_file": "file-none"}
    assert tenant.http.post("/v1/fine_tuning/jobs", json=body, headers=headers).status_code == 404
    mended = tenant.http.post("/v1/fine_tuning/jobs", json={"training_file": upload}, headers=headers)
    assert mended.status_code == 200


def test_many_at_once_with_one_key_make_one_job(tenant: Tenant, upload: str) -> None:
    answers: list[httpx.Response] = []

    def post() -> None:
        body = {"training_file": upload, "suffix": "race"}
        answers.append(tenant.http.post("/v1/fine_tuning/jobs", json=body, headers={"idempotency-key": "k3"}))

    threads = [threading.Thread(target=post) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 200}) == 1
    assert len(tenant.http.get("/v1/fine_tuning/jobs").json()["data"]) == 1


def test_the_stream_of_events_ends_with_the_job_and_can_be_resumed(tenant: Tenant, upload: str) -> None:
    job = tenant.http.post("/v1/fine_tuning/jobs", json={"training_file": upload}).json()
    path = f"/v1/fine_tuning/jobs/{job['id']}"
    timer = threading.Timer(1.5, lambda: tenant.http.post(f"{path}/cancel"))
    timer.start()
    seen = _read_stream(tenant, path)
    timer.join()
    kinds = [kind for kind, _, _ in seen]
    assert kinds[0] == "fine_tuning.job.event"
    assert kinds[-1] == "done"
    states = [json.loads(data)["status"] for kind, _, data in seen if kind == "fine_tuning.job"]
    assert (states[0], states[-1]) == ("queued", "cancelled")
    events = [(seq, json.loads(data)["id"]) for kind, seq, data in seen if kind == "fine_tuning.job.event"]
    assert [event_id for _, event_id in events] == [
        event["id"] for event in reversed(tenant.http.get(f"{path}/events").json()["data"])
    ]
    resumed = _read_stream(tenant, path, last_event_id=events[0][0])
    assert [json.loads(d)["id"] for k, _, d in resumed if k == "fine_tuning.job.event"] == [e for _, e in events[1:]]


def test_a_client_that_leaves_ends_its_stream(server: Server, tenant: Tenant, upload: str) -> None:
    job = tenant.http.post("/v1/fine_tuning/jobs", json={"training_file": upload}).json()
    with tenant.http.stream("GET", f"/v1/fine_tuning/jobs/{job['id']}/events?stream=true") as stream:
        lines = stream.iter_lines()
        next(lines)
        assert _in_flight(server) >= 2  # the stream, and the request for the metrics
    deadline = time.monotonic() + 10
    while _in_flight(server) > 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_stream_ends_when_its_key_is_revoked(server: Server, tenant: Tenant, upload: str) -> None:
    job = tenant.http.post("/v1/fine_tuning/jobs", json={"training_file": upload}).json()
    keys = f"/v1/customers/{tenant.id}/keys"
    with (
        server.client(server.operator.post(keys, json={"name": "watcher"}).json()["key"]) as watcher,
        watcher.stream("GET", f"/v1/fine_tuning/jobs/{job['id']}/events?stream=true") as stream,
    ):
        lines = stream.iter_lines()
        next(lines)
        newest = server.operator.get(keys).json()["data"][0]
        assert newest["name"] == "watcher"
        server.operator.delete(f"{keys}/{newest['id']}")
        deadline = time.monotonic() + 30
        for line in lines:  # a stream that goes on has a heartbeat every 15 s
            assert time.monotonic() < deadline, "the stream goes on without a key"
            assert "[DONE]" not in line
    assert tenant.http.get(f"/v1/fine_tuning/jobs/{job['id']}").json()["status"] == "queued"


def test_a_running_job_shows_its_progress(server: Server, tenant: Tenant, upload: str) -> None:
    job = tenant.openai.fine_tuning.jobs.create(training_file=upload, model="minilm")
    resources = open_resources(server.settings)
    try:
        claim = claim_job(resources, job.id, "test-worker")
        assert claim is not None
        claims.heartbeat(resources, claim, step="fitting", percent=40.0, seconds_remaining=12.0)
        running = tenant.openai.fine_tuning.jobs.retrieve(job.id)
        assert running.status == "running"
        assert running.estimated_finish is not None
        assert (running.model_dump()["step"], running.model_dump()["percent"]) == ("fitting", 40.0)
        details = [{"row": 2, "column": "label", "reason": "is empty", "mend": "Write a label."}]
        claims.fail(resources, claim, JobError("one_class", "Only one label.", "user", details=tuple(details)))
    finally:
        resources.close()
    failed = tenant.openai.fine_tuning.jobs.retrieve(job.id)
    assert failed.status == "failed"
    assert failed.error is not None
    assert (failed.error.code, failed.error.message) == ("one_class", "Only one label.")
    assert failed.error.model_dump()["blame"] == "user"
    assert failed.error.model_dump()["details"] == details
    assert failed.finished_at is not None


def _read_stream(tenant: Tenant, path: str, last_event_id: str = "") -> list[tuple[str, str, str]]:
    headers = {"last-event-id": last_event_id} if last_event_id else {}
    found: list[tuple[str, str, str]] = []
    block: dict[str, str] = {}
    with tenant.http.stream("GET", f"{path}/events?stream=true", headers=headers) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                block[name] = value
            elif block.get("event"):
                found.append((block["event"], block.get("id", ""), block["data"]))
                block = {}
    return found


def _in_flight(server: Server) -> float:
    text = server.anonymous.get("/metrics").text
    line = next(line for line in text.splitlines() if line.startswith("graft_http_requests_in_flight "))
    return float(line.split()[1])
