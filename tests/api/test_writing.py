"""Models that write, over HTTP: with the official SDK as it is, whole and as streams."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import jsonschema
import openai
import pytest

from tests.api.conftest import Server, Tenant, make_settings, serve
from tests.models.backbones import decoder_checkpoints

MODEL = "tiny-writer"
HELLO: list[Any] = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello?"}]
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 8}


@pytest.fixture(scope="module")
def writer(
    tmp_path_factory: pytest.TempPathFactory, broker_url: str, new_database: Callable[[], str]
) -> Iterator[Server]:
    """A server that has a tiny base that writes."""
    folder = tmp_path_factory.mktemp("writer")
    decoder_checkpoints.write(folder / "base")
    source = {"folder": str(folder / "base")}
    entry = {"modality": "text", "kind": "decoder", "source": source, "licence": "none", "max_tokens": 512}
    (folder / "bases.json").write_text(json.dumps({MODEL: entry}))
    settings = make_settings(
        folder / "data",
        new_database(),
        broker_url=broker_url,
        role="all",
        precision="fp32",
        base_models_file=folder / "bases.json",
        generation_memory_bytes=2**20,
        generation_queue_per_customer=4,
    )
    with serve(settings) as running:
        yield running


@pytest.fixture(scope="module")
def acme(writer: Server) -> Tenant:
    return writer.tenant("acme")


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _engine(server: Server) -> Any:
    (runner,) = [runner for runner in server.app.state.context.predictor.runners() if hasattr(runner, "write")]
    return runner.engine


def test_nothing_of_generation_is_open_before_it_is_asked_for(writer: Server) -> None:
    predictor = writer.app.state.context.predictor
    assert [hasattr(runner, "write") for runner in predictor.runners()] == [False]


def test_the_sdk_gets_an_answer_whole_and_streamed(acme: Tenant) -> None:
    whole = acme.openai.chat.completions.create(model=MODEL, messages=HELLO, **GREEDY)
    (choice,) = whole.choices
    assert (choice.message.role, choice.finish_reason) == ("assistant", "length")
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 8
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + 8
    chunks = list(acme.openai.chat.completions.create(model=MODEL, messages=HELLO, stream=True, **GREEDY))
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == choice.message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["length"]
    assert all(chunk.usage is None for chunk in chunks)


def test_a_streams_last_chunk_has_the_usage_and_what_was_cached(acme: Tenant) -> None:
    options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}, **GREEDY}
    for _ in range(2):
        *chunks, last = list(acme.openai.chat.completions.create(model=MODEL, messages=HELLO, **options))
        assert all(chunk.choices for chunk in chunks)
        assert last.choices == []
        assert last.usage is not None
        assert last.usage.completion_tokens == 8
    assert last.usage.prompt_tokens_details is not None
    assert (last.usage.prompt_tokens_details.cached_tokens or 0) >= 16


def test_the_bytes_of_a_stream_are_openais(acme: Tenant) -> None:
    body = {"model": MODEL, "messages": HELLO, "stream": True, "max_completion_tokens": 2, "temperature": 0}
    with acme.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    first = json.loads(lines[0].removeprefix("data: "))
    assert set(first) == {"id", "object", "created", "model", "system_fingerprint", "choices"}
    delta = {"role": "assistant", "content": "", "refusal": None}
    assert first["choices"] == [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}]
    assert json.loads(lines[-2].removeprefix("data: "))["choices"][0]["delta"] == {}


def test_seeds_choices_stops_and_probabilities(acme: Tenant) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": HELLO, "max_tokens": 6, "seed": 3, "n": 2}
    first, second = (acme.openai.chat.completions.create(**asked) for _ in range(2))
    texts = [choice.message.content for choice in first.choices]
    assert texts == [choice.message.content for choice in second.choices]
    assert len(set(texts)) == 2
    greedy = acme.openai.chat.completions.create(model=MODEL, messages=HELLO, logprobs=True, top_logprobs=2, **GREEDY)
    content = greedy.choices[0].message.content or ""
    assert greedy.choices[0].logprobs is not None
    tokens = greedy.choices[0].logprobs.content or []
    assert bytes(byte for token in tokens for byte in token.bytes or []).decode(errors="replace") == content
    assert all(token.logprob == max(top.logprob for top in token.top_logprobs) for token in tokens)
    stop = content[3:5]
    cut = acme.openai.chat.completions.create(model=MODEL, messages=HELLO, stop=[stop], **GREEDY)
    assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == (content[: content.index(stop)], "stop")


def test_answers_keep_to_a_schema(acme: Tenant) -> None:
    schema = {
        "type": "object",
        "properties": {"kind": {"enum": ["card", "refund"]}, "urgent": {"type": "boolean"}},
        "required": ["kind", "urgent"],
        "additionalProperties": False,
    }
    form: Any = {"type": "json_schema", "json_schema": {"name": "ticket", "schema": schema, "strict": True}}
    answer = acme.openai.chat.completions.create(
        model=MODEL, messages=HELLO, response_format=form, n=3, seed=1, max_tokens=60
    )
    for choice in answer.choices:
        jsonschema.validate(json.loads(choice.message.content or ""), schema)
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "http://elsewhere/x"}}}
    with pytest.raises(openai.BadRequestError) as caught:
        acme.openai.chat.completions.create(model=MODEL, messages=HELLO, response_format=form)
    assert caught.value.param == "response_format"


def test_completions_write_on(acme: Tenant) -> None:
    whole = acme.openai.completions.create(model=MODEL, prompt=["Once", "Twice"], n=2, logprobs=1, **GREEDY)
    assert [choice.index for choice in whole.choices] == [0, 1, 2, 3]
    assert whole.choices[0].text == whole.choices[1].text
    assert whole.choices[0].logprobs is not None
    assert "".join(whole.choices[0].logprobs.tokens or []) == whole.choices[0].text
    chunks = list(acme.openai.completions.create(model=MODEL, prompt=["Once", "Twice"], stream=True, **GREEDY))
    for index in (0, 1):
        text = "".join(chunk.choices[0].text for chunk in chunks if chunk.choices[0].index == index)
        assert text == whole.choices[2 * index].text
    assert acme.openai.completions.create(model=MODEL, prompt="Once", echo=True, **GREEDY).choices[0].text == (
        f"Once{whole.choices[0].text}"
    )


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"messages": [{"role": "user", "content": "x" * 600}]}, "messages", "context_length_exceeded"),
        ({"max_tokens": 511}, "messages", "context_length_exceeded"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_body"),
        ({"stop": ["a"] * 17}, "stop", "invalid_body"),
        ({"tool_choice": "required", "tools": [{"type": "function"}]}, "tool_choice", "invalid_body"),
        ({"logit_bias": {"5": 101}}, "logit_bias", "invalid_body"),
        ({"temperature": 3}, "temperature", "invalid_body"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages", "invalid_body"),
    ],
)
def test_what_cannot_be_written_is_refused_in_openais_words(
    acme: Tenant, change: dict[str, Any], param: str, code: str
) -> None:
    answer = acme.http.post("/v1/chat/completions", json={"model": MODEL, "messages": HELLO, **change})
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"], error["code"]) == (
        400,
        "invalid_request_error",
        param,
        code,
    )


def test_a_prompt_that_is_too_long_is_named(acme: Tenant) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        acme.openai.completions.create(model=MODEL, prompt="x" * 600)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "prompt")


def test_a_classifier_does_not_write_on(acme: Tenant) -> None:
    for model, status in (("minilm", 404), ("never-was", 404)):
        answer = acme.http.post("/v1/completions", json={"model": model, "prompt": "x"})
        assert answer.status_code == status
    assert acme.http.post("/v1/embeddings", json={"model": MODEL, "input": "x"}).status_code == 400


def test_who_disconnects_stops_the_writing_and_pays_for_what_was_written_once(writer: Server) -> None:
    tenant = writer.tenant("impatient")
    body = {"model": MODEL, "messages": HELLO, "temperature": 0, "max_tokens": 400, "logit_bias": {"2": -100}}
    with tenant.http.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("data: ")
        answer.close()
    with pytest.raises(httpx.TimeoutException):
        tenant.http.post("/v1/chat/completions", json=body, timeout=0.3)
    _until(lambda: _engine(writer).unfinished == 0)
    pool = _engine(writer).scheduler.pool
    assert pool.free == pool.count
    sums = writer.app.state.context.predictor.meter._sums
    _until(lambda: any(key[0] == tenant.id and found.requests == 2 for key, found in sums.items()))
    (found,) = [found for key, found in sums.items() if key[0] == tenant.id]
    assert 2 * 30 < found.tokens < 2 * 400


def test_a_flooded_queue_is_429_and_others_are_answered(
    writer: Server, acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, engine, going_on = writer.tenant("flood"), _engine(writer), threading.Event()
    compute = engine._compute
    monkeypatch.setattr(engine, "_compute", lambda stretches: going_on.wait(120) and compute(stretches))
    body = {"model": MODEL, "messages": HELLO, "n": 4, "max_tokens": 400, "logit_bias": {"2": -100}, "stream": True}
    with tenant.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        next(answer.iter_lines())
        refused = tenant.http.post("/v1/chat/completions", json=body)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["type"] == "rate_limit_error"
        going_on.set()
        assert acme.openai.chat.completions.create(model=MODEL, messages=HELLO, **GREEDY).choices
        answer.close()
    _until(lambda: engine.unfinished == 0)


def test_a_fault_in_the_middle_of_a_stream_is_its_last_event(
    writer: Server, acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = _engine(writer)
    compute, steps = engine._compute, iter(range(1000))

    def failing(stretches: Any) -> Any:
        if next(steps) >= 3:
            raise RuntimeError("a fault")
        return compute(stretches)

    monkeypatch.setattr(engine, "_compute", failing)
    with pytest.raises(openai.APIError):
        list(acme.openai.chat.completions.create(model=MODEL, messages=HELLO, stream=True, **GREEDY))
    monkeypatch.undo()
    assert acme.openai.chat.completions.create(model=MODEL, messages=HELLO, **GREEDY).choices


def test_calls_of_tools_are_told_apart_from_text() -> None:
    from api.writing import tool_calls

    text = 'One moment.\n<tool_call>\n{"name": "look_up", "arguments": {"id": 3}}\n</tool_call>'
    content, (call,) = tool_calls.split(text)
    assert content == "One moment."
    assert call["function"] == {"name": "look_up", "arguments": '{"id": 3}'}
    assert tool_calls.split("plain <tool_call> nothing") == ("plain <tool_call> nothing", [])
