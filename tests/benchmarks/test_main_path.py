"""POST banking77 with the `openai` SDK, poll, call the endpoint; beside it the Trainer on the same rows."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from tests.benchmarks import peers, public_data, results
from tests.benchmarks.embedded import Embedded, running

pytestmark = [pytest.mark.bench, pytest.mark.timeout(7200)]
_SEEDS = range(int(os.environ.get("GRAFT_BENCH_DRAWS", "3")))
_ENDS = ("succeeded", "failed", "cancelled")


def train_and_score(
    embedded: Embedded, name: str, train: Path, test: public_data.Rows, **body: Any
) -> dict[str, float]:
    """One job from POST to the end through the SDK.

    Seconds to the first correct prediction and to the end, accuracy of the first and of the final version.
    """
    key = embedded.new_customer(name)
    sdk = embedded.openai(key)
    probe = test[:40]
    began = time.perf_counter()
    with train.open("rb") as content:
        file = sdk.files.create(file=content, purpose="fine-tune")
    uploaded = time.perf_counter() - began
    job = sdk.fine_tuning.jobs.create(training_file=file.id, model="minilm", suffix="bench", seed=0, extra_body=body)
    first: float | None = None
    first_accuracy = 0.0
    with embedded.client(key) as client:
        while first is None or job.status not in _ENDS:
            job = sdk.fine_tuning.jobs.retrieve(job.id)
            assert job.status not in ("failed", "cancelled"), job.error
            if first is None and job.fine_tuned_model and _any_correct(sdk, job.fine_tuned_model, probe):
                first = time.perf_counter() - began
                first_accuracy = accuracy(client, job.fine_tuned_model, test)
            time.sleep(0.1)
        seconds = time.perf_counter() - began
        final = accuracy(client, str(job.fine_tuned_model), test)
        report = client.get(f"/v1/fine_tuning/jobs/{job.id}").json().get("report") or {}
    tried = [entry.get("name") for entry in report.get("strategies_tried", [])]
    print(
        f"  {name}: upload {uploaded:.1f} s, first {first:.1f} s, end {seconds:.1f} s, "
        f"accuracy {first_accuracy:.4f} then {final:.4f}, tried {tried}"
    )
    return {
        "upload": uploaded,
        "first": first,
        "seconds": seconds,
        "first_accuracy": first_accuracy,
        "accuracy": final,
    }


def accuracy(client: httpx.Client, model: str, rows: public_data.Rows) -> float:
    """Share of rows whose label the endpoint gives."""
    hits = 0
    for start in range(0, len(rows), 1000):
        chunk = rows[start : start + 1000]
        answer = client.post(f"/v1/models/{model}/predict", json={"inputs": [text for text, _ in chunk]})
        predictions = answer.raise_for_status().json()["predictions"]
        hits += sum(found["label"] == label for found, (_, label) in zip(predictions, chunk, strict=True))
    return hits / len(rows)


def _any_correct(sdk: OpenAI, model: str, probe: public_data.Rows) -> bool:
    for text, label in probe:
        answer = sdk.chat.completions.create(model=model, messages=[{"role": "user", "content": text}])
        if answer.choices[0].message.content == label:
            return True
    return False


def test_banking77(tmp_path: Path) -> None:
    """10 rows per class (`GRAFT_BENCH_DRAWS` draws, 3) and all rows, over HTTP; the Trainer on the first draw."""
    train = public_data.text_rows("banking77", "train", label="category")
    test = public_data.text_rows("banking77", "test", label="category")
    few = {
        seed: public_data.write_csv(public_data.few_per_class(train, 10, seed=seed), tmp_path / f"few{seed}.csv")
        for seed in _SEEDS
    }
    everything = public_data.write_csv(train, tmp_path / "all.csv")
    test_file = public_data.write_csv(test, tmp_path / "test.csv")
    with running(tmp_path) as embedded:
        # The first job after the start would pay for whatever the processes load late.
        train_and_score(embedded, "warm-up", few[0], test[:100], strategy="head")
        ours = {seed: train_and_score(embedded, f"few-{seed}", path, test) for seed, path in few.items()}
        whole = train_and_score(embedded, "whole", everything, test)
    trainer = peers.measure("trainer", few[0], test_file)
    tfidf = {"few": peers.measure("tfidf", few[0], test_file), "all": peers.measure("tfidf", everything, test_file)}

    def row(name: str, found: dict[str, float]) -> list[str]:
        return [
            name,
            f"{found['first']:.1f}",
            f"{found['seconds']:.1f}",
            f"{found['first_accuracy']:.4f}",
            f"{found['accuracy']:.4f}",
            f"{trainer['seconds'] / found['first']:.0f}x" if name.startswith("Graft, 10") else "",
        ]

    def peer(name: str, found: dict[str, float]) -> list[str]:
        return [name, f"{found['seconds']:.1f}", f"{found['seconds']:.1f}", "", f"{found['accuracy']:.4f}", ""]

    columns = [
        "banking77, official test set",
        "first answer (s)",
        "end (s)",
        "first accuracy",
        "final accuracy",
        "sooner",
    ]
    rows = [row(f"Graft, 10 per class, draw {seed}", found) for seed, found in ours.items()]
    rows.append(row("Graft, all rows", whole))
    rows.append(peer("Trainer, full fine-tune, 10 epochs at 5e-4, draw 0", trainer))
    rows.append(peer("TF-IDF and logistic regression, draw 0", tfidf["few"]))
    rows.append(peer("TF-IDF and logistic regression, all rows", tfidf["all"]))
    results.show("The main path over HTTP", columns, rows)
    results.save("main_path", {"few": ours, "all": whole, "trainer": trainer, "tfidf": tfidf})
    assert min(found["accuracy"] for found in ours.values()) > trainer["accuracy"]
