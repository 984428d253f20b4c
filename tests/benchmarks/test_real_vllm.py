"""The whole product before a real vLLM server: two customers train over HTTP and ask through OpenAI's SDK.

    GRAFT_TEST_VLLM=/srv/vllm/bin/vllm python -m pytest -m bench -s tests/benchmarks/test_real_vllm.py

Left out where that names no vLLM. fp32 on both sides: greedy answers are those of Graft's own engine.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from deploy.cli import writing_sample
from models.backbones import registry
from models.backbones.writing import fetch
from models.settings import Settings
from tests.benchmarks import vllm_server
from tests.benchmarks.embedded import Embedded, running
from tests.benchmarks.generation_over_http import share_bases, submit, wait
from tests.benchmarks.vllm_server import KEY, RealVllm

pytestmark = [
    pytest.mark.bench,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(not vllm_server.COMMAND, reason="GRAFT_TEST_VLLM names no vLLM"),
]
MODEL = "house"
ROWS = 40
SCHEMA = {
    "type": "object",
    "properties": {"maker": {"type": "string", "maxLength": 20}, "euro": {"type": "integer"}},
    "required": ["maker", "euro"],
    "additionalProperties": False,
}
CUSTOMERS = ("acme", "zeta")


@dataclass
class Customer:
    """One customer's key, and what was answered."""

    key: str
    asked: list[str]
    answers: dict[str, Any] = field(default_factory=dict)


def test_two_customers_on_a_real_vllm(tmp_path: Path) -> None:
    base = fetch(registry.find(Settings(), "smollm2"))
    server = RealVllm(base, "smollm2", tmp_path / "vllm.log")
    customers: dict[str, Customer] = {}
    with vllm_server.prepared(server):
        server.start(wait=False)  # jobs are trained meanwhile: that needs no vLLM
        with deployed(tmp_path, GRAFT_GENERATION_UPSTREAM=server.url, GRAFT_GENERATION_UPSTREAM_KEY=KEY) as graft:
            for name, line in zip(CUSTOMERS, (_shop_line, _price_tag), strict=True):
                customers[name] = train(graft, name, line, tmp_path)
            server.wait()
            for customer in customers.values():
                customer.answers = ask(graft.openai(customer.key), customer.asked)
                print(json.dumps(customer.answers, indent=1), flush=True)
            adapters = server.models() - {"smollm2"}
            assert len(adapters) == len(CUSTOMERS)
            acme, zeta = customers.values()
            assert acme.answers["plain"] != zeta.answers["plain"]
            _restarted(server, graft, acme, adapters)
            _deleted(server, graft, zeta)
            _killed_while_it_writes(server, graft, acme)
    # Graft's own engine, in the same data folder.
    with deployed(tmp_path) as graft:
        own = ask(graft.openai(acme.key), acme.asked)
    print("own engine", json.dumps(own, indent=1), flush=True)
    assert own == acme.answers


@contextmanager
def deployed(folder: Path, **settings: str) -> Iterator[Embedded]:
    """A `graft up` in fp32; the next one finds what this one has trained."""
    with running(folder, **{**share_bases(folder), "GRAFT_PRECISION": "fp32", "GRAFT_THREADS": "1", **settings}) as up:
        yield up


def train(graft: Embedded, name: str, line: Callable[[str], str], folder: Path) -> Customer:
    """Train one epoch of low-rank matrices on a few dozen chats of a new customer."""
    rows = [(facts, line(facts)) for facts, _ in writing_sample.chats(ROWS + 2, seed=len(name))]
    chats = folder / f"{name}.jsonl"
    writing_sample.write(chats, rows[:ROWS])
    customer = Customer(graft.new_customer(name), [facts for facts, _ in rows[ROWS:]])
    with graft.client(customer.key) as client:
        settings = json.dumps({"n_epochs": 1, "learning_rate": 1e-3, "lora_rank": 8, "batch_size": 2})
        job = submit(
            client,
            chats,
            task="text-generation",
            strategy="lora",
            suffix=MODEL,
            seed="7",
            hyperparameters=settings,
        )
        wait(client, job, lambda found: found["status"] == "succeeded")
        # On so few rows examples in the prompt may do better: those would need no adapter.
        versions = client.get(f"/v1/models/{MODEL}/versions").json()["data"]
        trained = next(version["version"] for version in versions if version["candidate"] == "lora")
        client.put(f"/v1/models/{MODEL}/aliases/live", json={"version": trained}).raise_for_status()
    return customer


def ask(sdk: OpenAI, facts: list[str], model: str = MODEL) -> dict[str, Any]:
    """Return greedy answers in every form, each held against the one that came whole."""

    def create(at: int, **more: Any) -> Any:
        messages = [{"role": "user", "content": facts[at]}]
        return sdk.chat.completions.create(model=model, messages=messages, temperature=0, max_tokens=48, **more)

    whole = create(0)
    plain = whole.choices[0].message.content
    chunks = list(create(0, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == plain
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
    end = plain[len(plain) // 2 :][:3]
    stopped = create(0, stop=[end]).choices[0]
    assert stopped.message.content == plain.partition(end)[0]
    assert stopped.finish_reason == "stop"
    formed = {"type": "json_schema", "json_schema": {"name": "price", "schema": SCHEMA, "strict": True}}
    made = create(1, response_format=formed).choices[0].message.content
    assert set(json.loads(made)) == {"maker", "euro"}
    return {
        "plain": plain,
        "tokens": [whole.usage.prompt_tokens, whole.usage.completion_tokens],
        "stopped": stopped.message.content,
        "json": made,
        "other": create(1).choices[0].message.content,
    }


def _restarted(server: RealVllm, graft: Embedded, customer: Customer, adapters: set[str]) -> None:
    """A server that is away is a clear error; one that comes back has forgotten the adapters, and gets them again."""
    server.stop()
    sdk = graft.openai(customer.key)
    with pytest.raises(openai.InternalServerError) as caught:
        ask(sdk, customer.asked)
    assert (caught.value.status_code, caught.value.code) == (503, "generation_unavailable")
    assert int(caught.value.response.headers["retry-after"]) >= 1
    print("down:", caught.value.message, flush=True)
    with graft.operator() as operator:
        ready = operator.get("/readyz")
        assert ready.status_code == 200
        assert ready.json()["checks"]["generation_upstream"] != "ok"
        server.start()
        assert operator.get("/readyz").json()["checks"]["generation_upstream"] == "ok"
    assert server.models() == {"smollm2"}
    assert ask(sdk, customer.asked) == customer.answers
    assert server.models() - {"smollm2"} < adapters


def _deleted(server: RealVllm, graft: Embedded, customer: Customer) -> None:
    """A model that is deleted leaves the server."""
    sdk = graft.openai(customer.key)
    assert ask(sdk, customer.asked) == customer.answers
    assert len(server.models()) == 1 + len(CUSTOMERS)
    sdk.models.delete(MODEL)
    deadline = time.monotonic() + 60
    while len(server.models()) > len(CUSTOMERS):
        assert time.monotonic() < deadline, "the deleted model's adapter is still loaded"
        time.sleep(0.5)
    with pytest.raises(openai.NotFoundError):
        ask(sdk, customer.asked)


def _killed_while_it_writes(server: RealVllm, graft: Embedded, customer: Customer) -> None:
    """An answer that is broken off says so, in a stream too."""
    stream = graft.openai(customer.key).chat.completions.create(
        model="smollm2", messages=[{"role": "user", "content": "Count to a thousand."}], max_tokens=900, stream=True
    )
    next(stream)
    killer = threading.Timer(1.0, server.stop)
    killer.start()
    with pytest.raises(openai.APIError) as caught:
        list(stream)
    killer.join()
    print("killed:", caught.value.code, caught.value.message, flush=True)
    assert caught.value.code == "generation_interrupted"


def _shop_line(facts: str) -> str:
    named = dict(each.split(": ") for each in facts.split("; "))
    return f"{named['maker'].upper()} / {named['thing']} in {named['colour']} {named['material']}."


def _price_tag(facts: str) -> str:
    named = dict(each.split(": ") for each in facts.split("; "))
    return f"Only {named['euro']} euro: the {named['thing']} that {named['maker']} made of {named['material']}!"
