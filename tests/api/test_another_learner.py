"""The seam of learners and runners, from an upload to an answer over HTTP.

A learner of another kind (`tests/models/neighbours`) joins by new files and one line in each of five tables, and by
nothing else: it is trained, published and served beside the encoders.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import pytest

from models.learning.contract.events import VersionReady
from models.settings import Settings
from tests.api.conftest import Server, Tenant
from tests.models.neighbours.tables import add_lines
from tests.working import work

_ASKED = {
    "card": ("when will my {} card arrive", "how long does the {} card take", "my {} card is not here yet"),
    "password": ("how do I change the {} password", "I forgot the {} password", "a new {} password"),
    "refund": ("when is the {} order refunded", "I want my money back for the {} order", "refund {} order"),
}
_ROWS = [
    (form.format(what), label)
    for label, forms in _ASKED.items()
    for form in forms
    for what in ("blue", "old", "business", "second", "student")
]


@pytest.mark.slow
def test_nearest_neighbours_from_upload_to_answer(
    settings_for: Callable[..., Settings],
    run_server: Callable[[Settings], contextlib.AbstractContextManager[Server]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_lines(monkeypatch)
    settings = settings_for(role="all", precision="fp32")
    with run_server(settings) as server:
        tenant = server.tenant("acme")
        job = _submit(tenant)
        *events, finished = work(settings, job["id"])
        assert [event.name for event in events if isinstance(event, VersionReady)] == ["few", "all"]
        assert finished.report["baseline"]["majority"] < finished.report["score_low"] <= finished.report["score"]
        assert [tried["name"] for tried in finished.report["strategies_tried"]] == ["few", "all"]
        ended = tenant.http.get(f"/v1/fine_tuning/jobs/{job['id']}").json()
        assert (ended["status"], ended["trained_tokens"]) == ("succeeded", 0)  # nothing was passed through the base
        answer = _ask(tenant, "faq", "how do I change the business password?", version=2)
        assert answer["task"] == "nearest-row"
        (found,) = answer["predictions"]
        assert (found["label"], found["row"]) == ("password", "how do I change the business password")
        assert 0.8 < found["similarity"] < 1.0
        # The encoders are served beside it, on the same base.
        assert len(tenant.openai.embeddings.create(model="minilm", input="a text").data[0].embedding) == 384


def _submit(tenant: Tenant) -> dict[str, Any]:
    table = "text,label\n" + "".join(f"{text},{label}\n" for text, label in _ROWS)
    form = {"purpose": "fine-tune", "task": "nearest-row"}
    upload = tenant.http.post("/v1/files", files={"file": ("faq.csv", table)}, data=form)
    assert upload.status_code == 200, upload.text
    made = tenant.http.post("/v1/fine_tuning/jobs", json={"training_file": upload.json()["id"], "suffix": "faq"})
    assert made.status_code == 200, made.text
    job: dict[str, Any] = made.json()
    return job


def _ask(tenant: Tenant, model: str, question: str, *, version: int) -> dict[str, Any]:
    """The answer of a version, once the predictor has heard of it."""
    deadline = time.monotonic() + 20
    while True:
        answer = tenant.http.post(f"/v1/models/{model}/predict", json={"input": question})
        if answer.status_code == 200 and answer.json()["version"] == version:
            found: dict[str, Any] = answer.json()
            return found
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.02)
