from __future__ import annotations

import base64
import json
import math
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from tests.api.conftest import Server, Tenant

Publish = Callable[..., dict[str, Any]]


def test_a_model_answers_many_inputs_in_their_order(tenant: Tenant, publish: Publish) -> None:
    publish("tickets")
    texts = ["Where is my card?", "refund please", "Where is my card?"]
    answer = tenant.http.post("/v1/models/tickets/predict", json={"inputs": texts, "top_k": 2}).json()
    assert (answer["object"], answer["model"], answer["version"]) == (
        "prediction.list",
        f"ft:minilm:{tenant.name}:tickets",
        1,
    )
    assert len(answer["predictions"]) == 3
    for prediction in answer["predictions"]:
        assert prediction["label"] == prediction["top"][0]["label"]
        assert sum(entry["score"] for entry in prediction["top"]) == pytest.approx(1, abs=1e-5)
    assert answer["predictions"][0]["label"] == answer["predictions"][2]["label"]
    assert answer["usage"]["rows"] == 3
    assert answer["usage"]["tokens"] > 0
    assert answer["timings"]["total"] > 0
    one = tenant.http.post("/v1/models/tickets/predict", json={"input": texts[1]}).json()
    assert one["predictions"][0]["label"] == answer["predictions"][1]["label"]


def test_a_model_is_called_by_each_of_its_names(tenant: Tenant, publish: Publish) -> None:
    publish("tickets", versions=2)
    full = f"ft:minilm:{tenant.name}:tickets"
    for name, version in (
        ("tickets", 2),
        (full, 2),
        ("tickets@1", 1),
        (f"{full}@1", 1),
        ("tickets@live", 2),
        (full.replace(":", "%3A") + "%401", 1),
    ):
        answer = tenant.http.post(f"/v1/models/{name}/predict", json={"input": "Where is my card?"})
        assert (answer.status_code, answer.json().get("version")) == (200, version), (name, answer.text)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "inputs"),
        ({"inputs": []}, "inputs"),
        ({"inputs": "text"}, "inputs"),
        ({"inputs": ["a"], "input": "a"}, "inputs"),
        ({"inputs": ["a"] * 2049}, "inputs"),
        ({"inputs": ["a", "b", "c", ""]}, "inputs[3]"),
        ({"inputs": ["a", 17]}, "inputs[1]"),
        ({"inputs": ["a", {"text": "b"}]}, "inputs[1]"),
        ({"inputs": ["a"], "topk": 2}, "topk"),
        ({"inputs": ["a"], "top_k": 0}, "top_k"),
        ({"inputs": ["a"], "top_k": True}, "top_k"),
        ({"inputs": ["a"], "min_score": 1.5}, "min_score"),
        ({"inputs": ["a"], "min_score": "half"}, "min_score"),
        ({"inputs": ["a"], "min_score": False}, "min_score"),
        ({"inputs": ["a"], "top_k": "2"}, "top_k"),
        ({"inputs": ["a"], "min_score": 0.5}, "min_score"),
        ([], None),
    ],
)
def test_what_is_wrong_with_a_request_is_named(
    tenant: Tenant, publish: Publish, body: object, param: str | None
) -> None:
    publish("tickets")
    answer = tenant.http.post("/v1/models/tickets/predict", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


def test_malformed_and_too_large_bodies_are_refused_on_the_hot_path_too(tenant: Tenant) -> None:
    path = "/v1/models/tickets/predict"
    assert tenant.http.post(path, content=b'{"inputs": [NaN').status_code == 400
    assert tenant.http.post(path, content=iter([b"x" * 150_000] * 2)).status_code == 413


def test_a_model_that_is_still_trained_says_so(tenant: Tenant, upload: str) -> None:
    job = tenant.http.post("/v1/fine_tuning/jobs", json={"training_file": upload, "suffix": "soon"}).json()
    answer = tenant.http.post("/v1/models/soon/predict", json={"input": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "model_not_ready")
    assert job["id"] in answer.json()["error"]["message"]


def test_what_is_not_there_is_told_from_what_is(tenant: Tenant, publish: Publish) -> None:
    chat = {"messages": [{"role": "user", "content": "x"}]}

    def refused(model: str) -> tuple[str, str]:
        answers = [
            tenant.http.post("/v1/chat/completions", json={"model": model, **chat}),
            tenant.http.post(f"/v1/models/{model}/predict", json={"input": "x"}),
        ]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].json() == answers[1].json()
        return answers[0].json()["error"]["code"], answers[0].json()["error"]["message"]

    code, message = refused("minilm")
    assert code == "untrained_base_model"
    assert "POST /v1/fine_tuning/jobs" in message
    assert message.endswith("You have no model yet.")
    publish("tickets", versions=3)
    # Another one: what there is not is remembered for a moment, message and all.
    assert refused("mobilenet-v2")[1].endswith("Your models: tickets.")
    assert refused("tickets@7") == ("no_such_version", "'tickets' has no version 7; it has 1, 2, 3.")
    assert refused("tickets@canary") == ("no_such_alias", "'tickets' has no alias 'canary'; it has live.")
    assert refused("tikcets") == ("not_found", "No such model: 'tikcets'.")


def test_another_content_type_is_refused_alike(tenant: Tenant, publish: Publish) -> None:
    publish("tickets")
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answers = [
        tenant.http.post("/v1/models/tickets/predict", content=b'{"input": "x"}', headers=headers),
        tenant.http.post("/v1/chat/completions", content=b'{"model": "tickets"}', headers=headers),
    ]
    assert [answer.status_code for answer in answers] == [415, 415]
    assert answers[0].json() == answers[1].json()
    # No type at all is taken for JSON, by both.
    assert tenant.http.post("/v1/models/tickets/predict", content=b'{"input": "x"}').status_code == 200


def test_a_message_that_is_not_read_to_its_end_is_said_to_be(tenant: Tenant, publish: Publish) -> None:
    publish("tickets")
    for text, truncated in (("where is it", False), ("where is it " * 400, True)):
        messages: Any = [{"role": "user", "content": text}]
        answer = tenant.openai.chat.completions.create(model="tickets", messages=messages)
        assert answer.model_dump()["truncated"] is truncated


def test_chat_completions_answer_with_the_label(tenant: Tenant, publish: Publish) -> None:
    publish("tickets")
    label = tenant.http.post("/v1/models/tickets/predict", json={"input": "Where is my card?"}).json()["predictions"][0]
    messages: Any = [
        {"role": "system", "content": "You sort tickets."},
        {"role": "user", "content": "an earlier one"},
        {"role": "assistant", "content": "refund"},
        {"role": "user", "content": [{"type": "text", "text": "Where is my card?"}]},
    ]
    answer = tenant.openai.chat.completions.create(
        model="tickets", messages=messages, logprobs=True, top_logprobs=2, temperature=0, max_tokens=5, n=1
    )
    assert answer.choices[0].message.content == label["label"]
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].logprobs is not None
    content = answer.choices[0].logprobs.content
    assert content is not None
    assert content[0].token == label["label"]
    assert math.exp(content[0].logprob) == pytest.approx(label["score"], rel=1e-4)
    assert content[0].top_logprobs[0].token == label["label"]
    assert sum(math.exp(entry.logprob) for entry in content[0].top_logprobs) == pytest.approx(1, abs=1e-4)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0


def test_chat_completions_stream(tenant: Tenant, publish: Publish) -> None:
    publish("tickets")
    messages: Any = [{"role": "user", "content": "Where is my card?"}]
    whole = tenant.openai.chat.completions.create(model="tickets", messages=messages)
    stream = tenant.openai.chat.completions.create(
        model="tickets", messages=messages, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage == whole.usage


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        ({"n": 2}, "n"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages"),
        ({"messages": [{"role": "user", "content": "   "}]}, "messages"),
        ({"model": "nobody"}, "model"),
    ],
)
def test_what_a_classifier_cannot_do_is_named(
    tenant: Tenant, publish: Publish, extra: dict[str, Any], param: str
) -> None:
    publish("tickets")
    body = {"model": "tickets", "messages": [{"role": "user", "content": "x"}], **extra}
    answer = tenant.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == (404 if param == "model" else 400)
    assert answer.json()["error"]["param"] == param, answer.text


def test_a_part_that_is_no_text_is_named(tenant: Tenant, publish: Publish) -> None:
    publish("tickets")
    content = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}]
    body = {"model": "tickets", "messages": [{"role": "user", "content": content}]}
    error = tenant.http.post("/v1/chat/completions", json=body).json()["error"]
    assert "image_url" in error["message"]


def test_embeddings_come_as_the_sdk_asks_for_them(tenant: Tenant) -> None:
    texts = ["Where is my card?", "The weather is fine."]
    packed = tenant.openai.embeddings.create(model="minilm", input=texts)
    plain = tenant.openai.embeddings.create(model="minilm", input=texts, encoding_format="float")
    assert [item.index for item in packed.data] == [0, 1]
    for left, right in zip(packed.data, plain.data, strict=True):
        assert len(left.embedding) == 384
        assert left.embedding == pytest.approx(right.embedding, abs=1e-6)
        assert math.hypot(*left.embedding) == pytest.approx(1, abs=1e-2)
    assert packed.usage.prompt_tokens == packed.usage.total_tokens > 0
    raw = tenant.http.post("/v1/embeddings", json={"input": "x", "encoding_format": "base64"}).json()
    assert len(base64.b64decode(raw["data"][0]["embedding"])) == 384 * 4
    assert tenant.openai.embeddings.create(model="minilm", input="x", dimensions=384).data


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": []}, "input"),
        ({"input": [""]}, "input[0]"),
        ({"input": [1, 2]}, "input[0]"),
        ({"input": "x", "dimensions": 64}, "dimensions"),
        ({"input": "x", "model": "ada"}, "model"),
        ({"input": "x", "encoding_format": "int8"}, "encoding_format"),
    ],
)
def test_wrong_embedding_requests_are_named(tenant: Tenant, body: dict[str, object], param: str) -> None:
    answer = tenant.http.post("/v1/embeddings", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


def test_a_flood_is_429_with_a_time_to_come_back(
    settings_for: Callable[..., Any], run_server: Callable[..., Any]
) -> None:
    with run_server(settings_for(role="all", queue_per_customer=4)) as server:
        tenant = server.tenant("acme")
        answers: list[httpx.Response] = []

        def ask() -> None:
            answers.append(tenant.http.post("/v1/embeddings", json={"input": ["some text " * 200] * 4}))

        threads = [threading.Thread(target=ask) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        refused = [answer for answer in answers if answer.status_code == 429]
        assert {answer.status_code for answer in answers} == {200, 429}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)


@pytest.mark.slow
def test_usage_adds_up(server: Server, tenant: Tenant, publish: Publish) -> None:
    publish("tickets", wait=False)  # waiting would be metered too
    for _ in range(3):
        tenant.http.post("/v1/models/tickets/predict", json={"inputs": ["a", "b"]})
    deadline = time.monotonic() + 30
    while True:
        buckets = tenant.http.get("/v1/usage").json()["data"]
        rows = {bucket["kind"]: bucket["rows"] for bucket in buckets}
        if rows.get("prediction") == 6:
            break
        assert time.monotonic() < deadline, json.dumps(buckets)
        time.sleep(0.1)
    assert rows["training"] == 6
    prediction = next(bucket for bucket in buckets if bucket["kind"] == "prediction")
    assert (prediction["model"], prediction["requests"]) == (f"ft:minilm:{tenant.name}:tickets", 3)
    assert prediction["end_time"] - prediction["start_time"] == 3600
    wrong = tenant.http.get("/v1/usage", params={"start_time": 20, "end_time": 10})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "start_time")


@pytest.mark.parametrize("top_k", ["9" * 5_000, "10000", "1001", "0", "-1", "one", ""])
def test_a_top_k_that_is_none_is_400_in_a_form_too(tenant: Tenant, top_k: str) -> None:
    answer = tenant.http.post("/v1/models/any/predict", files={"file": ("a.png", b"x")}, data={"top_k": top_k})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "top_k")


@pytest.mark.parametrize("min_score", ["-0.1", "1.1", "nan", "inf", "high", ""])
def test_a_min_score_that_is_none_is_400_in_a_form(tenant: Tenant, min_score: str) -> None:
    files, fields = {"file": ("a.png", b"x")}, {"min_score": min_score}
    answer = tenant.http.post("/v1/models/any/predict", files=files, data=fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "min_score")


@pytest.mark.parametrize("name", ["top_k", "min_score"])
def test_a_file_where_an_option_is_expected_is_400(tenant: Tenant, name: str) -> None:
    files = {"file": ("a.png", b"x"), name: ("b.png", b"y")}
    error = tenant.http.post("/v1/models/any/predict", files=files).json()["error"]
    assert error["param"] == name
    assert f"curl -F {name}=" in error["message"]


def test_a_client_that_leaves_takes_its_request_along(server: Server, tenant: Tenant) -> None:
    body = json.dumps({"input": ["a text that takes a while " * 30] * 200}).encode()
    head = f"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {tenant.key}\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    before = _left(server)
    with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))) as connection:
        connection.sendall(head.encode() + body)
    deadline = time.monotonic() + 30
    while _left(server) == before:
        assert time.monotonic() < deadline, "the request was answered to nobody"
        time.sleep(0.05)


def _left(server: Server) -> float:
    name = 'graft_http_requests_total{method="POST",route="/v1/embeddings",status="499"}'
    lines = server.anonymous.get("/metrics").text.splitlines()
    return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name)), 0.0)


def test_metrics_say_what_serving_does(server: Server, tenant: Tenant, publish: Publish) -> None:
    publish("counted")
    before = _serving(server)
    for _ in range(2):
        texts = ["Where is my card?", "refund please", "I want to leave"]
        answer = tenant.http.post("/v1/models/counted/predict", json={"inputs": texts}).json()
    after = _serving(server)
    grown = {name: after[name] - before[name] for name in after}
    assert grown["graft_engine_rows_total"] == 6
    assert grown["graft_engine_tokens_total"] == 2 * answer["usage"]["tokens"]
    assert 2 <= grown["graft_engine_passes_total"] <= 6
    assert grown["graft_engine_queue_wait_seconds_count"] == 2
    # Published versions are loaded ahead of the first request, which then finds them or waits for the same load.
    assert grown["graft_adapter_cache_hits_total"] >= 1
    assert after["graft_adapter_cache_loads_total"] >= 1
    assert 0 < after["graft_adapter_cache_bytes"] <= after["graft_adapter_cache_limit_bytes"]
    assert 0 <= after["graft_directory_age_seconds"] < 60
    assert after["graft_engine_waiting_rows"] == 0


def _serving(server: Server) -> dict[str, float]:
    families = text_string_to_metric_families(server.anonymous.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples]
    named = ("graft_engine_", "graft_adapter_", "graft_directory_")
    return {sample.name: sample.value for sample in samples if sample.name.startswith(named)}
