"""Slots of restaurant8k as JSON answers that fit a schema, beside the span head on the same rows, over HTTP."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import jsonschema

from tests.benchmarks import embedded, task_sets
from tests.benchmarks.generation_over_http import share_bases, submit, wait

_ASKING = 16  # at a time
_SYSTEM = "Name what the guest says of the booking, as JSON."

Slots = set[tuple[str, str]]


def measure(folder: Path, tree: Path, *, train: int, test: int) -> dict[str, Any]:
    """Return the share of answers that are valid JSON, and the slot F1 of both models."""
    folder.mkdir(parents=True, exist_ok=True)
    data = task_sets.restaurant8k()
    rng = random.Random(0)
    rows, asked = rng.sample(data.train, train), rng.sample(data.test, test)
    names = sorted({span["label"] for row in data.train for span in row["spans"]})
    texts = {name: {"type": "string"} for name in names}
    schema = {"type": "object", "properties": texts, "additionalProperties": False}
    chats, spans = folder / "slots.jsonl", folder / "spans.jsonl"
    chats.write_text("".join(json.dumps(_chat(row)) + "\n" for row in rows), "utf-8")
    spans.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    with embedded.running(folder, tree=tree, **share_bases(folder)) as deployment:
        client = deployment.client(deployment.new_customer("bench"))
        asks = json.dumps({"n_epochs": 1, "learning_rate": 5e-4, "lora_rank": 8, "batch_size": 8})
        form = {"task": "text-generation", "strategy": "lora", "suffix": "slots", "hyperparameters": asks}
        done = wait(client, submit(client, chats, **form), lambda job: job["status"] == "succeeded")
        model = client.get(f"/v1/fine_tuning/jobs/{done['id']}/checkpoints").json()["data"][0]
        with ThreadPoolExecutor(_ASKING) as pool:
            answers = list(
                pool.map(lambda row: _answer(client, model["fine_tuned_model_checkpoint"], row, schema), asked)
            )
        form = {"task": "token-classification", "strategy": "head", "suffix": "spans"}
        wait(client, submit(client, spans, **form), lambda job: job["status"] == "succeeded")
        found = [_spans(client, row) for row in asked]
    expected = [{(span["label"], row["text"][span["start"] : span["end"]]) for span in row["spans"]} for row in asked]
    return {
        "train_rows": train,
        "test_rows": test,
        "version": model["candidate"],
        "valid_json": sum(answer is not None for answer in answers) / test,
        "slot_f1": _f1(expected, [answer or set() for answer in answers]),
        "span_head_f1": _f1(expected, found),
        "seconds": done["report"]["seconds"],
        "goal": "valid_json 1.0",
    }


def _chat(row: dict[str, Any]) -> dict[str, Any]:
    slots = {span["label"]: row["text"][span["start"] : span["end"]] for span in row["spans"]}
    asked = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": row["text"]}]
    return {"messages": [*asked, {"role": "assistant", "content": json.dumps(dict(sorted(slots.items())))}]}


def _answer(client: httpx.Client, model: str, row: dict[str, Any], schema: dict[str, Any]) -> Slots | None:
    """Return the slots of an answer; None if it is no JSON or does not fit the schema."""
    body = {
        "model": model,
        "messages": [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": row["text"]}],
        "temperature": 0,
        "max_tokens": 96,
        "response_format": {"type": "json_schema", "json_schema": {"name": "slots", "schema": schema}},
    }
    answer = client.post("/v1/chat/completions", json=body, timeout=600)
    assert answer.is_success, answer.text
    try:
        found = json.loads(answer.json()["choices"][0]["message"]["content"])
        jsonschema.validate(found, schema)
    except (ValueError, jsonschema.ValidationError):
        return None
    return set(found.items())


def _spans(client: httpx.Client, row: dict[str, Any]) -> Slots:
    answer = client.post("/v1/models/spans/predict", json={"inputs": [row["text"]]})
    assert answer.is_success, answer.text
    found = answer.json()["predictions"][0]["spans"]
    return {(span["label"], row["text"][span["start"] : span["end"]]) for span in found}


def _f1(expected: list[Slots], found: list[Slots]) -> float:
    """Return micro F1 of pairs of a slot and its words."""
    right = sum(len(true & said) for true, said in zip(expected, found, strict=True))
    return 2 * right / max(1, sum(map(len, expected)) + sum(map(len, found)))
