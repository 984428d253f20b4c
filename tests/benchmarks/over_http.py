"""One customer's way over HTTP: a file up, a job, versions, predictions. Files and jobs by OpenAI's own SDK."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from models.learning.evaluation.scores import Score
from models.records.transitions import ENDED
from tests.benchmarks import scoring
from tests.benchmarks.embedded import Embedded
from tests.benchmarks.task_sets import Row, TaskSet

# Of one request: rows as JSON, files in a form, and what both may weigh.
_ROWS, _FILES, _BYTES = 1_000, 50, 6 * 2**20


@dataclass(frozen=True)
class Outcome:
    """Seconds count from the first byte of the upload. The first version is the one that answered first."""

    rows: int
    upload_s: float
    first_s: float
    final_s: float
    first: Score
    final: Score
    candidate: str  # what answers in the end: head, partial, …
    tried: list[dict[str, Any]]
    situation: str

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def train_and_score(
    embedded: Embedded, name: str, data: TaskSet, folder: Path, *, base: str, strategy: str, seed: int
) -> Outcome:
    """One job from POST to the end; both versions judged by the test rows."""
    key = embedded.new_customer(name.replace("_", "-"))
    sdk = embedded.openai(key)
    path = data.write(folder)
    with embedded.client(key) as client:
        began = time.perf_counter()
        with path.open("rb") as content:
            file = sdk.files.create(file=content, purpose="fine-tune")
        upload_s = time.perf_counter() - began
        job = sdk.fine_tuning.jobs.create(
            training_file=file.id, model=base, suffix="bench", seed=seed, extra_body={"strategy": strategy}
        )
        first_s: float | None = None
        while True:
            job = sdk.fine_tuning.jobs.retrieve(job.id)
            assert job.status not in ("failed", "cancelled"), job.error
            if first_s is None and job.fine_tuned_model:
                predict(client, job.fine_tuned_model, data, data.test[:1])
                first_s = time.perf_counter() - began
            if job.status in ENDED:
                break
            time.sleep(0.1)
        final_s = time.perf_counter() - began
        assert job.fine_tuned_model
        assert first_s is not None
        versions = client.get(f"/v1/fine_tuning/jobs/{job.id}/checkpoints").raise_for_status().json()["data"]
        by_age = sorted(versions, key=lambda version: version["version"])
        first = predict(client, by_age[0]["fine_tuned_model_checkpoint"], data, data.test)
        final = predict(client, job.fine_tuned_model, data, data.test) if len(by_age) > 1 else first
        report = client.get(f"/v1/fine_tuning/jobs/{job.id}").raise_for_status().json()["report"]
    return Outcome(
        rows=len(data.train),
        upload_s=upload_s,
        first_s=first_s,
        final_s=final_s,
        first=scoring.score(data.task, data.test, first),
        final=scoring.score(data.task, data.test, final),
        candidate=str(report["strategy"]),
        tried=[
            {name: entry.get(name) for name in ("name", "score", "seconds", "abandoned")}
            for entry in report["strategies_tried"]
        ],
        situation=str((report.get("situation") or {}).get("name", "")),
    )


def predict(client: httpx.Client, model: str, data: TaskSet, rows: Sequence[Row]) -> list[Row]:
    """An answer per row; pictures and sounds go as the files of forms."""
    answers: list[Row] = []
    for part in _portions(rows, data.medium):
        response = client.post(f"/v1/models/{model}/predict", **_body(part, data.medium))
        assert response.is_success, response.text
        answers += response.json()["predictions"]
    return answers


def _portions(rows: Sequence[Row], medium: str | None) -> Iterator[list[Row]]:
    """Rows in the portions of requests."""
    most, portion, weight = _ROWS if medium is None else _FILES, list[Row](), 0
    for row in rows:
        size = len(row["text"]) if medium is None else Path(row[medium]).stat().st_size
        if portion and (len(portion) == most or weight + size > _BYTES):
            yield portion
            portion, weight = [], 0
        portion.append(row)
        weight += size
    yield portion


def _body(rows: Sequence[Row], medium: str | None) -> dict[str, Any]:
    if medium is not None:
        paths = [Path(row[medium]) for row in rows]
        files = {str(number): (path.name, path.read_bytes()) for number, path in enumerate(paths)}
        # A detector's answers are judged over all scores, and not from the one on from which it would answer by itself.
        return {"files": files, **({"data": {"min_score": "0"}} if "boxes" in rows[0] else {})}
    if "text_pair" in rows[0]:
        return {"json": {"inputs": [{"text": row["text"], "text_pair": row["text_pair"]} for row in rows]}}
    return {"json": {"inputs": [row["text"] for row in rows]}}
