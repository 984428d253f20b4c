"""Values and spans over HTTP: upload, job, what the worker would publish, prediction, chat."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from models.backbones import loading, registry
from models.learning.contract.events import Finished, VersionReady
from models.learning.contract.request import DatasetSource, TrainRequest
from models.learning.training import train
from models.services import claims
from models.services.resources import open_resources
from tests.claiming import claim as claim_job
from tests.models.learning.generated import nearness, places

if TYPE_CHECKING:
    from tests.api.conftest import Server, Tenant


def submit(tenant: Tenant, rows: list[dict[str, Any]], suffix: str, **fields: Any) -> dict[str, Any]:
    """Upload the rows and start a job on them."""
    answer = tenant.http.post(
        "/v1/fine_tuning/jobs", json={"training_file": upload(tenant, rows), "suffix": suffix, **fields}
    )
    assert answer.status_code == 200, answer.text
    job: dict[str, Any] = answer.json()
    return job


def upload(tenant: Tenant, rows: list[dict[str, Any]]) -> str:
    """The file's id."""
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    answer = tenant.http.post("/v1/files", files={"file": ("rows.jsonl", content)}, data={"purpose": "fine-tune"})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def work(server: Server, job: dict[str, Any], rows: list[dict[str, Any]], folder: Path) -> None:
    """What the worker does with a job."""
    resources = open_resources(server.settings)
    try:
        claim = claim_job(resources, job["id"], "test-worker")
        assert claim is not None
        path = folder / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        file = claim.training_file
        source = DatasetSource(path, file.profile["format"], file.profile["columns"], file.sha256)
        base = loading.load(registry.find(server.settings, job["model"]), device="cpu", precision="fp32", threads=1)
        for event in train(TrainRequest(source, claim.job.task, folder / "out", strategy="head"), base, stop=bool):
            if isinstance(event, VersionReady):
                claims.publish(resources, claim, event, promote=True)
            elif isinstance(event, Finished):
                claims.finish(resources, claim, event)
    finally:
        resources.close()


def ask(tenant: Tenant, model: str, item: Any) -> dict[str, Any]:
    answer = tenant.http.post(f"/v1/models/{model}/predict", json={"input": item})
    assert answer.status_code == 200, answer.text
    prediction: dict[str, Any] = answer.json()["predictions"][0]
    return prediction


def chat(tenant: Tenant, model: str, text: str) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": text}], "logprobs": True, "top_logprobs": 2}
    answer = tenant.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


def test_the_value_of_a_pair(server: Server, tenant: Tenant, tmp_path: Path) -> None:
    rows = nearness(60, seed=0)
    job = submit(tenant, rows, "nearness")
    assert (job["task"], job["model"]) == ("text-regression", "minilm")
    work(server, job, rows, tmp_path)
    done = tenant.http.get(f"/v1/fine_tuning/jobs/{job['id']}").json()
    assert done["status"] == "succeeded"
    assert done["report"]["metric"] == "pearson"
    assert set(done["report"]["regression"]) == {"rmse", "mae", "pearson", "spearman", "r2"}
    same = ask(
        tenant, "nearness", {"text": "A man is playing a guitar.", "text_pair": "Look: A man is playing a guitar!"}
    )
    other = ask(tenant, "nearness", {"text": "A man is playing a guitar.", "text_pair": "The train leaves at noon."})
    assert same["value"] > other["value"] + 1
    assert same["low"] < same["value"] < same["high"]
    refused = tenant.http.post("/v1/models/nearness/predict", json={"input": "one text"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "inputs[0]")


def test_the_spans_of_a_text(server: Server, tenant: Tenant, tmp_path: Path) -> None:
    rows = places(60, seed=0)
    job = submit(tenant, rows, "places")
    assert job["task"] == "token-classification"
    work(server, job, rows, tmp_path)
    report = tenant.http.get(f"/v1/fine_tuning/jobs/{job['id']}").json()["report"]
    assert (report["metric"], {row["label"] for row in report["per_class"]}) == ("entity_f1", {"city", "day"})
    text = "Is there a train from New York Friday morning?"
    prediction = ask(tenant, "places", text)
    assert [(span["text"], span["label"]) for span in prediction["spans"]] == [("New York", "city"), ("Friday", "day")]
    for span in prediction["spans"]:
        assert text[span["start"] : span["end"]] == span["text"]
        assert 0 < span["score"] <= 1
    assert json.loads(chat(tenant, "places", text)) == {
        "spans": [{**span, "score": pytest.approx(span["score"], abs=1e-5)} for span in prediction["spans"]]
    }
    assert ask(tenant, "places", "Cancel my last order") == {"spans": []}


def test_a_single_text_is_valued_in_chat_too(server: Server, tenant: Tenant, tmp_path: Path) -> None:
    words = ("awful", "bad", "so-so", "good", "wonderful")
    things = ("soup", "room", "film", "trip", "book", "service")
    rows = [{"text": f"The {thing} was {word}.", "value": float(n)} for thing in things for n, word in enumerate(words)]
    work(server, submit(tenant, rows, "mood"), rows, tmp_path)
    valued = ask(tenant, "mood", "The car was good.")["value"]
    assert float(chat(tenant, "mood", "The car was good.")) == pytest.approx(valued, abs=1e-5)
    answer = tenant.http.post("/v1/models/mood/predict", json={"input": "The car was good.", "top_k": 2})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "top_k")


def test_a_validation_file_may_have_no_foreign_labels(tenant: Tenant) -> None:
    foreign = [{"text": "In Rome", "spans": [{"start": 3, "end": 7, "label": "town"}]}] * 4
    body = {"training_file": upload(tenant, places(30, seed=0)), "validation_file": upload(tenant, foreign)}
    answer = tenant.http.post("/v1/fine_tuning/jobs", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unknown_labels")
    pairs, single = nearness(20, seed=0), [{"text": f"row {n}", "value": float(n)} for n in range(8)]
    body = {"training_file": upload(tenant, pairs), "validation_file": upload(tenant, single)}
    answer = tenant.http.post("/v1/fine_tuning/jobs", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "validation_file"), answer.text
