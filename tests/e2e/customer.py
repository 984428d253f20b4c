"""A customer of a deployment, over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import torch

from models.backbones.precision import bf16_is_fast

if TYPE_CHECKING:
    from tests.e2e.conftest import Deployment


# Rows that the trainer works on for some seconds, beside another test.
ROWS_OF_A_WHILE = 2_500 if bf16_is_fast(torch.device("cpu")) else 1_200


def wait_until(condition: Callable[[], Any], timeout_s: float = 60.0, what: str = "") -> Any:
    """Poll until a condition holds and return its value; fail at the deadline."""
    deadline = time.monotonic() + timeout_s
    while True:
        if value := condition():
            return value
        assert time.monotonic() < deadline, f"timed out waiting {what}"
        time.sleep(0.05)


class Customer:
    """A customer's view: nothing but HTTP."""

    def __init__(self, deployment: Deployment, customer_id: str, client: httpx.Client) -> None:
        self.id = customer_id
        self.http = client
        self._deployment = deployment

    def train(self, path: Path, suffix: str, **fields: str) -> str:
        """POST a data set in one form; the job's id."""
        with path.open("rb") as file:
            form = {"suffix": suffix, "seed": "7", **fields}
            return ok(self.http.post("/v1/fine_tuning/jobs", data=form, files={"file": (path.name, file)}))["id"]

    def job(self, job_id: str) -> dict[str, Any]:
        return ok(self.http.get(f"/v1/fine_tuning/jobs/{job_id}"))

    def act(self, job_id: str, verb: str) -> httpx.Response:
        return self.http.post(f"/v1/fine_tuning/jobs/{job_id}/{verb}")

    def wait(self, job_id: str, *statuses: str, timeout_s: float = 120.0) -> dict[str, Any]:
        """Poll until the job is in one of these states."""

        def arrived() -> dict[str, Any] | None:
            job = self.job(job_id)
            if job["status"] in statuses:
                return job
            assert job["status"] not in ("succeeded", "failed", "cancelled"), job
            return None

        return wait_until(arrived, timeout_s, f"for {statuses}")

    def wait_in_training(self, job_id: str, timeout_s: float = 120.0) -> psutil.Process:
        """Poll until the trainer is at work on the job; the trainer."""

        def working() -> bool:
            job = self.job(job_id)
            assert job["status"] in ("queued", "running"), job
            return job["step"] is not None

        wait_until(working, timeout_s, "for the training to begin")
        return wait_until(self._deployment.trainer)

    def train_for_long(self, suffix: str) -> str:
        """A job that is still at work whenever a test gets round to it."""
        return self.train(self._deployment.write_tickets(60_000), suffix, strategy="head")

    def train_for_a_while(self, suffix: str) -> str:
        """A job that a test can catch at work, and that ends by itself soon after."""
        return self.train(self._deployment.write_tickets(ROWS_OF_A_WHILE), suffix, strategy="head")

    def predict(self, model: str, inputs: list[str]) -> list[dict[str, Any]]:
        answer = ok(self.http.post(f"/v1/models/{model}/predict", json={"inputs": inputs}))
        return answer["predictions"]

    def checkpoints(self, job_id: str) -> list[str]:
        return sorted(c["candidate"] for c in ok(self.http.get(f"/v1/fine_tuning/jobs/{job_id}/checkpoints"))["data"])


def ok(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    return response.json()
