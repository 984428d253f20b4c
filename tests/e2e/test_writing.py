"""A job of a model that writes whose trainer is killed: it resumes from the checkpoint and ends with the same bits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.customer import ok
from tests.models.backbones import decoder_checkpoints

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MODEL = "tiny-writer"
ROWS = 240


@pytest.fixture
def writers(deploy, tmp_path):
    """A deployment with a tiny base that writes."""
    decoder_checkpoints.write(tmp_path / "base")
    bases = decoder_checkpoints.offer(tmp_path / "base", tmp_path / "bases.json", name=MODEL)
    return deploy(GRAFT_BASE_MODELS_FILE=str(bases))


@pytest.fixture
def chats(tmp_path) -> Path:
    """Answers that follow from the questions."""
    path = tmp_path / "chats.jsonl"
    with path.open("w") as file:
        for number in range(ROWS):
            asked = {"role": "user", "content": f"number {number}"}
            answer = {"role": "assistant", "content": f"{'abcdef'[number % 6] * 9} {number}"}
            file.write(json.dumps({"messages": [asked, answer]}) + "\n")
    return path


def _train(customer, chats, suffix):
    asked = json.dumps({"n_epochs": 5, "batch_size": 4, "learning_rate": 0.002})
    fields = {"model": MODEL, "task": "text-generation", "strategy": "lora", "hyperparameters": asked}
    return customer.train(chats, suffix, **fields)


def _artifact(deployment, job_id):
    """The hashes of the weights that a job has published, by candidate."""
    rows = deployment.rows("SELECT candidate, artifact_prefix FROM model_versions WHERE job_id = :job_id", job_id)
    manifests = {
        name: json.loads(next((deployment.folder / "objects").rglob(f"{prefix}manifest.json")).read_bytes())
        for name, prefix in rows
    }
    return {name: manifest["files"]["weights.safetensors"]["sha256"] for name, manifest in manifests.items()}


def _steps_of_the_last_attempt(customer, job_id):
    steps: list[float] = []
    after: dict[str, str] = {}
    while True:  # newest first
        page = ok(customer.http.get(f"/v1/fine_tuning/jobs/{job_id}/events", params={"limit": 100, **after}))
        for event in page["data"]:
            if event["message"].startswith("Training started"):
                return steps
            if "train_loss" in event["data"]:
                steps.append(event["data"]["step"])
        after = {"after": page["data"][-1]["id"]}


def _curve(customer, job):
    return customer.http.get(f"/v1/files/{job['result_files'][0]}/content").text


def test_a_killed_trainer_resumes_and_ends_with_the_same_bits(writers, chats, wait_until):
    acme = writers.customer("acme")
    job_id = _train(acme, chats, "killed")
    trainer = acme.wait_in_training(job_id)
    state = "cache/checkpoints/*/generation-lora/manifest.json"
    checkpoint = wait_until(lambda: next(iter(writers.folder.glob(state)), None), 90, "for a checkpoint")
    done = json.loads(checkpoint.read_bytes())["step"]
    trainer.kill()
    job = acme.wait(job_id, "succeeded", timeout_s=120)
    assert job["attempt"] == 2
    assert min(_steps_of_the_last_attempt(acme, job_id)) > done >= 1
    whole_id = _train(acme, chats, "whole")
    whole = acme.wait(whole_id, "succeeded", timeout_s=120)
    assert _artifact(writers, job_id) == _artifact(writers, whole_id)
    assert set(_artifact(writers, job_id)) >= {"lora"}
    assert _curve(acme, job) == _curve(acme, whole)
    assert _curve(acme, job).startswith("step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,")
    assert writers.bills(job_id) == 1
