"""The request that asks a trained model, ready to be copied into a shell."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploy.cli.client import Client
from deploy.cli.console import as_json
from deploy.cli.errors import ApiRefused
from models.datasets import reading
from models.datasets.examples import TextPair
from models.datasets.tasks import TASKS
from models.errors import GraftError

_FILES = {"image": "photo.jpg", "audio": "sound.wav"}
_TEXT = "Where is my order?"
_PAIR = ("A plane is taking off.", "An air plane is taking off.")
_CHARS = 200  # of a text that stands as an example


def call_of(client: Client, job: dict[str, Any], file: Path | None = None) -> str:
    """Return the curl command for a job's model. Its example is the first row of `file`, the job's training data."""
    _, at, version = str(job.get("fine_tuned_model") or "").partition("@")  # pinned where it is not live
    model = f"{job.get('suffix') or job['fine_tuned_model']}{at}{version}"
    head = f'curl {client.server}/v1/models/{model}/predict \\\n  -H "Authorization: Bearer $GRAFT_API_KEY"'
    task = TASKS.get(str(job.get("task")))
    medium = _FILES.get(task.modality) if task else None
    if medium is not None:
        return f"{head} -F file=@{medium}"
    body = shlex.quote(as_json({"inputs": [_input(client, job, file)]}))
    return f'{head} -H "Content-Type: application/json" \\\n  -d {body}'


def _input(client: Client, job: dict[str, Any], file: Path | None) -> str | dict[str, str]:
    try:
        stored = client.get(f"/v1/files/{job['training_file']}")
    except ApiRefused:  # deleted meanwhile
        stored = {}
    if file is not None:
        for example in _first(file, stored):
            return example
    return _pair(*_PAIR) if "text_pair" in (stored.get("columns") or {}) else _TEXT


def _first(file: Path, stored: dict[str, Any]) -> Iterator[str | dict[str, str]]:
    try:
        row = next(reading.read(file, format=stored["format"], task=stored["task"], columns=stored["columns"]))
    except (GraftError, OSError, KeyError, StopIteration):  # the example is a courtesy
        return
    if isinstance(row.input, TextPair):
        yield _pair(row.input.first[:_CHARS], row.input.second[:_CHARS])
    elif isinstance(row.input, str):
        yield row.input[:_CHARS]


def _pair(first: str, second: str) -> dict[str, str]:
    return {"text": first, "text_pair": second}
