from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.api.conftest import Server, Tenant


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"training_file": ', "line 1"),
        (b'{\n  "training_file": "x",\n}', "line 2"),
        (b'{"seed": NaN}', "line 1, column"),
        (b'{"seed": Infinity}', "line 1, column"),
        (b'{"seed": 1e999}', "line 1, column"),
        (b"[" * 100_000, "depth"),
        (b'{"a":' * 20_000 + b"1" + b"}" * 20_000, "depth"),
        (b'"\xff"', "line 1"),
        (b'"\\ud800"', "line 1"),
    ],
)
def test_malformed_json_is_told_where(tenant: Tenant, body: bytes, says: str) -> None:
    answer = tenant.http.post("/v1/fine_tuning/jobs", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_json"
    assert says in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "key"),
    [
        ("/v1/models/any/predict", b'{"inputs": ["a"], "inputs": ["b: c", "d"]}', "inputs"),
        ("/v1/models/any/predict", b'{"inputs": [{"text": "a", "text": "b"}]}', "text"),
        ("/v1/fine_tuning/jobs", b'{"training_data": [{"text": "a", "label": "A", "label": "B"}]}', "label"),
        ("/v1/fine_tuning/jobs", b'{"training_file": "f", "suffix": "a", "suffix": "b"}', "suffix"),
        (
            "/v1/chat/completions",
            b'{"model": "any", "messages": [{"role": "user", "content": "a", "role": "x"}]}',
            "role",
        ),
    ],
)
def test_a_key_twice_is_refused_with_its_name(tenant: Tenant, path: str, body: bytes, key: str) -> None:
    answer = tenant.http.post(path, content=body, headers={"content-type": "application/json"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "invalid_json")
    assert f"has the key '{key}' twice; rename or remove one of them" in error["message"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ('{"n_epochs": 1, "n_epochs": 2}', "an object in it has the key 'n_epochs' twice"),
        ('{"n_epochs": }', "(line 1, column 14)"),
    ],
)
def test_a_forms_field_is_read_as_strictly_as_a_body(tenant: Tenant, table: str, settings: str, says: str) -> None:
    form = {"file": ("t.csv", table)}
    error = tenant.http.post("/v1/fine_tuning/jobs", files=form, data={"hyperparameters": settings}).json()["error"]
    assert error["param"] == "hyperparameters"
    assert "The form's field 'hyperparameters' is not valid JSON: " in error["message"]
    assert says in error["message"]
    assert settings in error["message"]


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"17", b"null", b"true", b""])
def test_a_body_that_is_no_object_is_an_error(tenant: Tenant, body: bytes) -> None:
    answer = tenant.http.post("/v1/fine_tuning/jobs", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("path", ["/v1/fine_tuning/jobs", "/v1/customers"])
def test_a_json_body_over_the_limit_is_413(server: Server, tenant: Tenant, path: str, chunked: bool) -> None:
    body = b'{"suffix": "' + b"x" * 300_000 + b'"}'
    content = iter([body[:100], body[100:]]) if chunked else body
    client = server.operator if "customers" in path else tenant.http
    answer = client.post(path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "body_too_large"


def test_the_body_of_an_unknown_caller_is_not_read(server: Server) -> None:
    answer = server.anonymous.post("/v1/fine_tuning/jobs", content=b"{broken")
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ({"trainingfile": "file-1"}, "trainingfile", "Did you mean 'training_file'?"),
        ({"training_file": "file-1", "sufix": "a"}, "sufix", "Did you mean 'suffix'?"),
        ({"training_file": "f", "hyperparameters": {"epochs": 3}}, "hyperparameters.epochs", "n_epochs"),
        ({"training_file": "f", "hyperparameters": {"n_epochs": "many"}}, "hyperparameters.n_epochs", '"auto" or'),
        ({"training_file": "f", "hyperparameters": {"n_epochs": True}}, "hyperparameters.n_epochs", '"auto" or'),
        ({"training_file": "f", "hyperparameters": {"lexical": "often"}}, "hyperparameters.lexical", "true or false"),
        ({"training_file": "f", "hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs", "from 1 up to 1000"),
        (
            {"training_file": "f", "hyperparameters": {"n_epochs": 1001}},
            "hyperparameters.n_epochs",
            "from 1 up to 1000",
        ),
        ({"training_file": "f", "hyperparameters": {"batch_size": 0}}, "hyperparameters.batch_size", "up to 4096"),
        ({"training_file": "f", "hyperparameters": {"batch_size": 9999}}, "hyperparameters.batch_size", "up to 4096"),
        ({"training_file": "f", "hyperparameters": {"lora_rank": 300}}, "hyperparameters.lora_rank", "up to 256"),
        ({"training_file": "f", "seed": "x"}, "seed", "integer"),
        ({"training_file": "f", "seed": -1}, "seed", "0"),
        ({"training_file": 3}, "training_file", "string"),
        ({}, "training_file", "required"),
        (
            {"training_file": "f", "method": {"type": "reinforcement"}},
            "method.type",
            "not offered; use 'supervised', 'dpo' or one of",
        ),
        ({"training_file": "f", "method": {"type": "magic"}}, "method.type", "Unknown method"),
        ({"training_file": "f", "method": {"type": "supervised", "lora": {}}}, "method.lora", "no meaning"),
        ({"training_file": "f", "strategy": "heads"}, "strategy", "head"),
        ({"training_file": "f", "strategy": "full", "method": {"type": "head"}}, "strategy", "say one"),
        ({"training_file": "f", "metadata": {str(n): "x" for n in range(17)}}, "metadata", "16 pairs"),
        ({"training_file": "f", "metadata": {"a": 1}}, "metadata.a", "string"),
        ({"training_file": "f", "integrations": [{"type": "wandb"}]}, "integrations", "not offered"),
        ({"training_data": [], "training_file": "f"}, "training_data", "exclude"),
    ],
)
def test_a_wrong_field_is_named(tenant: Tenant, body: dict[str, object], param: str, says: str) -> None:
    answer = tenant.http.post("/v1/fine_tuning/jobs", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert says in error["message"]


@pytest.mark.parametrize(("query", "param"), [("limit=abc", "limit"), ("limit=0", "limit"), ("limit=101", "limit")])
def test_a_wrong_query_parameter_is_named(tenant: Tenant, query: str, param: str) -> None:
    answer = tenant.http.get(f"/v1/fine_tuning/jobs?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_a_compressed_body_is_415(tenant: Tenant) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    answer = tenant.http.post("/v1/fine_tuning/jobs", content=gzip.compress(b"{}"), headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "compressed_body")
    assert "content-encoding: gzip" in answer.json()["error"]["message"]


def test_another_content_type_is_415(tenant: Tenant) -> None:
    answer = tenant.http.post("/v1/fine_tuning/jobs", content="a=b", headers={"content-type": "text/plain"})
    assert answer.status_code == 415


def test_an_unknown_route_hints_at_the_nearest(server: Server) -> None:
    near = server.anonymous.get("/v1/fine_tuning/job")
    assert near.status_code == 404
    assert "/v1/fine_tuning/jobs" in near.json()["error"]["message"]
    without_prefix = server.anonymous.get("/files")
    assert "/v1/files" in without_prefix.json()["error"]["message"]


def test_a_wrong_method_says_which_are_right(server: Server) -> None:
    answer = server.anonymous.patch("/v1/files")
    assert answer.status_code == 405
    assert answer.json()["error"]["code"] == "method_not_allowed"
    assert {"GET", "POST"} <= set(answer.headers["allow"].replace(" ", "").split(","))


def test_request_ids_are_made_or_taken_over(server: Server) -> None:
    made = server.anonymous.get("/healthz").headers["x-request-id"]
    assert made.startswith("req_")
    taken = server.anonymous.get("/v1/files", headers={"x-request-id": "trace-17"})
    assert taken.headers["x-request-id"] == "trace-17"
    refused = server.anonymous.get("/healthz", headers={"x-request-id": "a b\tc"})
    assert refused.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": [1] * 60_000}),
        ("/v1/fine_tuning/jobs", {"training_data": [1] * 60_000}),
        ("/v1/fine_tuning/jobs", {"training_file": "f", "metadata": {str(n): 1 for n in range(15_000)}}),
        ("/v1/fine_tuning/jobs", {"training_file": "f", "columns": {str(n): 1 for n in range(15_000)}}),
        ("/v1/chat/completions", {"model": "m", "messages": [1] * 60_000}),
        ("/v1/fine_tuning/jobs", {"x" * 150_000: 1}),
    ],
)
def test_a_body_full_of_faults_is_answered_with_few_of_them(tenant: Tenant, path: str, body: object) -> None:
    answer = tenant.http.post(path, json=body)
    assert answer.status_code == 400
    assert len(answer.content) < 2_000
