"""Models that write, over HTTP: with the official SDK as it is, whole and as streams."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest
from typer.testing import CliRunner

from deploy.cli.main import app
from tests.api.conftest import Server, Tenant, make_settings, serve
from tests.models.backbones import decoder_checkpoints

MODEL = "tiny-writer"
HELLO: list[Any] = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello?"}]
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 8}
PARAMETERS = {
    "type": "object",
    "properties": {"kind": {"enum": ["card", "refund"]}},
    "required": ["kind"],
    "additionalProperties": False,
}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "look_up", "parameters": PARAMETERS}}
PING: dict[str, Any] = {"type": "function", "function": {"name": "ping", "parameters": PARAMETERS}}


@pytest.fixture(scope="module")
def writer(
    tmp_path_factory: pytest.TempPathFactory, broker_url: str, new_database: Callable[[], str]
) -> Iterator[Server]:
    """A server that has a tiny base that writes."""
    folder = tmp_path_factory.mktemp("writer")
    decoder_checkpoints.write(folder / "base")
    bases = decoder_checkpoints.offer(folder / "base", folder / "bases.json", name=MODEL)
    settings = make_settings(
        folder / "data",
        new_database(),
        broker_url=broker_url,
        role="all",
        precision="fp32",
        base_models_file=bases,
        generation_memory_bytes=2**20,
        generation_queue_per_customer=4,
    )
    with serve(settings) as running:
        yield running


@pytest.fixture(scope="module")
def acme(writer: Server) -> Tenant:
    return writer.tenant("acme")


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _used(tenant: Tenant) -> tuple[int, int]:
    """Return the requests and tokens that the customer's usage has in all hours."""
    buckets = tenant.http.get("/v1/usage").json()["data"]
    return sum(bucket["requests"] for bucket in buckets), sum(bucket["tokens"] for bucket in buckets)


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


@pytest.mark.parametrize("stream", [False, True])
def test_a_schema_that_cannot_be_kept_to_is_400_before_a_stream_begins(acme: Tenant, stream: bool) -> None:
    endless = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": endless}}
    body = {"model": MODEL, "messages": HELLO, "response_format": form, "stream": stream}
    answer = acme.http.post("/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "response_format"), answer.text


@pytest.mark.parametrize(
    ("choice", "names", "reason"),
    [
        ("required", {"look_up", "ping"}, "tool_calls"),
        ({"type": "function", "function": {"name": "ping"}}, {"ping"}, "stop"),
    ],
)
def test_a_call_that_is_asked_for_is_one(acme: Tenant, choice: Any, names: set[str], reason: str) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": HELLO, "tools": [TOOL, PING], "tool_choice": choice, "seed": 1}
    answer = acme.openai.chat.completions.create(**asked, max_tokens=80)
    (found,) = answer.choices
    (call,) = found.message.tool_calls or []
    assert call.type == "function"
    assert call.function.name in names
    jsonschema.validate(json.loads(call.function.arguments), PARAMETERS)
    assert (found.finish_reason, found.message.content) == (reason, None)
    chunks = [one.choices[0] for one in acme.openai.chat.completions.create(**asked, max_tokens=80, stream=True)]
    ((streamed,),) = [one.delta.tool_calls for one in chunks if one.delta.tool_calls]
    assert streamed.function is not None
    assert streamed.function.arguments == call.function.arguments
    assert chunks[-1].finish_reason == reason
    # Cut off, it is no call, and says so.
    cut = acme.openai.chat.completions.create(**asked, max_tokens=3).choices[0]
    assert (cut.finish_reason, cut.message.tool_calls) == ("length", None)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "book"}}])
def test_parameters_may_refer_to_their_own_definitions(acme: Tenant, choice: Any) -> None:
    """As `openai.pydantic_function_tool` writes a model inside a model; the references led nowhere."""
    room = {"type": "object", "properties": {"sea": {"type": "boolean"}}, "required": ["sea"]}
    parameters = {
        "type": "object",
        "properties": {"room": {"$ref": "#/$defs/Room"}},
        "required": ["room"],
        "additionalProperties": False,
        "$defs": {"Room": {**room, "additionalProperties": False}},
    }
    tool: Any = {"type": "function", "function": {"name": "book", "parameters": parameters}}
    answer = acme.openai.chat.completions.create(
        model=MODEL, messages=HELLO, tools=[tool], tool_choice=choice, max_tokens=80, seed=1
    )
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    jsonschema.validate(json.loads(call.function.arguments), parameters)


def test_responses_are_written_whole_and_as_events(acme: Tenant) -> None:
    asked: dict[str, Any] = {"model": MODEL, "temperature": 0, "max_output_tokens": 8}
    said = acme.openai.chat.completions.create(model=MODEL, messages=HELLO, **GREEDY).choices[0].message.content
    whole = acme.openai.responses.create(input="Hello?", instructions="Be kind.", metadata={"a": "b"}, **asked)
    assert (whole.output_text, whole.status, whole.metadata) == (said, "incomplete", {"a": "b"})
    assert whole.usage is not None
    assert whole.usage.output_tokens == 8
    parts: Any = [{"role": "user", "content": [{"type": "input_text", "text": "Hello?"}]}]
    events = list(acme.openai.responses.create(input=parts, instructions="Be kind.", stream=True, **asked))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == said
    last = events[-1]
    assert last.type == "response.incomplete"
    assert last.response.output_text == said
    unused: Any = {"reasoning": {"effort": "low"}, "include": [], "prompt_cache_key": "a", "background": False}
    assert acme.openai.responses.create(input=parts, instructions="Be kind.", **unused, **asked).output_text == said
    # An answer goes back into the next request as it is.
    more = acme.openai.responses.create(input=[*parts, *whole.output, *parts], **asked)  # type: ignore[misc]
    assert more.usage is not None
    assert more.usage.input_tokens > whole.usage.input_tokens
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    form: Any = {"format": {"type": "json_schema", "name": "x", "schema": {**schema, "additionalProperties": False}}}
    held = acme.openai.responses.create(model=MODEL, input="Hello?", text=form, max_output_tokens=60)
    jsonschema.validate(json.loads(held.output_text), schema)


def _nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"tools": [TOOL]}, "tools"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format"),
        ({"text": {"format": {"type": "json_schema", "schema": {"$ref": "http://elsewhere/x"}}}}, "text.format"),
        ({"text": {"format": {"type": "text", "x": _nested(300)}}}, "text.format"),
        ({"input": "x" * 600}, "input"),
    ],
)
def test_what_of_responses_is_not_there_is_refused(acme: Tenant, change: dict[str, Any], param: str) -> None:
    answer = acme.http.post("/v1/responses", json={"model": MODEL, "input": "x", **change})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


def test_predict_says_where_a_base_that_writes_is_asked(acme: Tenant) -> None:
    answer = acme.http.post(f"/v1/models/{MODEL}/predict", json={"inputs": ["x"]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "writing_base_model")
    assert "/v1/chat/completions" in answer.json()["error"]["message"]


@pytest.mark.slow
def test_the_command_line_shows_what_is_written(writer: Server, acme: Tenant, tmp_path: Path) -> None:
    env = {"GRAFT_SERVER": writer.url, "GRAFT_API_KEY": acme.key, "XDG_CONFIG_HOME": str(tmp_path)}
    said = acme.openai.chat.completions.create(model=MODEL, messages=[HELLO[1]], temperature=0).choices[0].message
    shown = CliRunner().invoke(app, ["predict", MODEL, "Hello?", "--json"], env=env)
    assert json.loads(shown.stdout) == {"input": "Hello?", "text": said.content}, shown.stderr
    shown = CliRunner().invoke(app, ["predict", MODEL, "Hello?"], env=env)
    assert shown.stdout.startswith("Hello?  ")
    assert f"{MODEL}@base · 1 input · " in shown.stderr
    for options in (["--pairs"], ["--top-k", "3"], ["--min-score", "0"]):
        refused = CliRunner().invoke(app, ["predict", MODEL, "a\tb", *options], env=env)
        assert f"{options[0]} is for other models" in refused.stderr


def test_completions_write_on(acme: Tenant) -> None:
    whole = acme.openai.completions.create(model=MODEL, prompt=["Once", "Twice"], n=2, logprobs=1, **GREEDY)
    assert [choice.index for choice in whole.choices] == [0, 1, 2, 3]
    assert whole.choices[0].text == whole.choices[1].text
    assert whole.choices[0].logprobs is not None
    # Random weights write bytes that are no characters. Each token of such bytes shows the mark, the text shows one.
    spelled = "".join(whole.choices[0].logprobs.tokens or [])
    assert spelled.replace("\ufffd", "") == whole.choices[0].text.replace("\ufffd", "")
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
        ({"tool_choice": "required", "tools": [{"type": "function"}]}, "tools", "invalid_body"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_body"),
        (
            {"tool_choice": {"type": "function", "function": {"name": "b"}}, "tools": [TOOL]},
            "tool_choice",
            "invalid_body",
        ),
        ({"tool_choice": {"type": "custom"}, "tools": [TOOL]}, "tool_choice", "invalid_body"),
        ({"tool_choice": {"function": {"name": ["look_up"]}}, "tools": [TOOL]}, "tool_choice", "invalid_body"),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"x": _nested(300)}}}]},
            "tools",
            "invalid_body",
        ),
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


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        (5, "messages[1] has tool_calls"),
        ([1, 2], "messages[1] has tool_calls"),
        ("abc", "messages[1] has tool_calls"),
        ({"a": 1}, "messages[1] has tool_calls"),
        ([{"function": "f"}], "messages[1] has tool_calls"),
        ([{"function": {"name": "f", "arguments": "[" * 50_000}}], "a call of 'f' are nested too deeply"),
    ],
)
def test_calls_of_tools_that_are_none_are_refused(acme: Tenant, calls: Any, said: str) -> None:
    messages = [HELLO[1], {"role": "assistant", "content": "y", "tool_calls": calls}, HELLO[1]]
    answer = acme.http.post("/v1/chat/completions", json={"model": MODEL, "messages": messages})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "messages"), answer.text
    assert said in error["message"]


def test_a_prompt_that_is_too_long_is_named(acme: Tenant) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        acme.openai.completions.create(model=MODEL, prompt="x" * 600)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "prompt")


def test_a_classifier_does_not_write_on(acme: Tenant) -> None:
    for model, status in (("minilm", 404), ("never-was", 404)):
        answer = acme.http.post("/v1/completions", json={"model": model, "prompt": "x"})
        assert answer.status_code == status
    assert acme.http.post("/v1/embeddings", json={"model": MODEL, "input": "x"}).status_code == 400


@pytest.mark.slow
def test_who_disconnects_stops_the_writing_and_pays_for_what_was_written_once(writer: Server) -> None:
    tenant = writer.tenant("impatient")
    body = {"model": MODEL, "messages": HELLO, "temperature": 0, "max_tokens": 400, "logit_bias": {"2": -100}}
    written = _engine(writer).written
    with tenant.http.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("data: ")
        _until(lambda: _engine(writer).written > written)  # what no step has begun costs nothing
        answer.close()
    _until(lambda: _engine(writer).unfinished == 0)
    connection = http.client.HTTPConnection(writer.url.removeprefix("http://"))
    headers = {"authorization": f"Bearer {tenant.key}", "content-type": "application/json"}
    written = _engine(writer).written
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    _until(lambda: _engine(writer).written > written)
    connection.close()
    _until(lambda: _engine(writer).unfinished == 0)
    pool = _engine(writer).scheduler.pool
    assert pool.free == pool.count
    _until(lambda: _used(tenant)[0] >= 2)  # within the ten seconds after which the server writes its sums
    requests, tokens = _used(tenant)
    assert requests == 2
    assert 2 * 30 < tokens < 2 * 400


def test_a_flooded_queue_is_429_and_others_are_answered(
    writer: Server, acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, engine, going_on = writer.tenant("flood"), _engine(writer), threading.Event()
    compute = engine._compute
    monkeypatch.setattr(engine, "_compute", lambda stretches: going_on.wait(120) and compute(stretches))
    body = {"model": MODEL, "messages": HELLO, "n": 4, "max_tokens": 400, "logit_bias": {"2": -100}, "stream": True}
    with tenant.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.iter_lines()  # named, since an iterator that is dropped closes the stream
        next(lines)
        _until(lambda: engine.unfinished >= 4)
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
