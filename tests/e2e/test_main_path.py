"""POST a data set, poll the job, call your own endpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

SAMPLES = Path(__file__).parents[2] / "deploy" / "cli" / "samples"


@pytest.mark.slow
def test_a_posted_data_set_becomes_an_endpoint(deployment):
    acme = deployment.customer("acme")
    job_id = acme.train(SAMPLES / "tickets.csv", "tickets")
    job = acme.wait(job_id, "succeeded", timeout_s=240)
    assert job["fine_tuned_model"] == "ft:minilm:acme:tickets"
    assert job["attempt"] == 1
    assert job["trained_rows"] == 400
    assert job["error"] is None
    assert job["seed"] == 7

    held_out = (SAMPLES / "tickets_test.csv").read_text().splitlines()[1:]
    texts, labels = zip(*(line.rsplit(",", 1) for line in held_out), strict=True)
    answers = acme.predict("tickets", [text.strip('"') for text in texts])
    right = sum(answer["label"] == label for answer, label in zip(answers, labels, strict=True))
    assert right / len(labels) > 0.8

    events = acme.http.get(f"/v1/fine_tuning/jobs/{job_id}/events?limit=100").json()["data"]
    assert events[0]["message"] == "The job has successfully completed."
    assert acme.checkpoints(job_id) == deployment.versions(job_id)
    assert deployment.bills(job_id) == 1
