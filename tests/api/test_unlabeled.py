"""Rows without labels, from `graft train --unlabeled` to what the job's report says of them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from api.schemas.report import ReportObject
from deploy.cli.main import app
from models.learning.contract.events import Progress, VersionReady
from tests.api.conftest import Server, Tenant
from tests.working import work

SAMPLES = Path(__file__).parents[2] / "deploy" / "cli" / "samples" / "tickets.csv"


def write(path: Path, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def files(folder: Path) -> tuple[Path, Path]:
    """Four tickets of each kind with their label, and 150 without; three of those are among the first."""
    with SAMPLES.open(newline="", encoding="utf-8") as file:
        tickets = [(row["text"], row["label"]) for row in csv.DictReader(file)]
    by_label: dict[str, list[str]] = {}
    for text, label in tickets:
        by_label.setdefault(label, []).append(text)
    few = [(text, label) for label, texts in by_label.items() for text in texts[:4]]
    others = [text for texts in by_label.values() for text in texts[4:]][:147]
    labelled = write(folder / "few.csv", ("text", "label"), few)
    return labelled, write(folder / "more.csv", ("text",), [(text,) for text in [*others, *(t for t, _ in few[:3])]])


@pytest.mark.slow
def test_from_the_command_to_the_report(server: Server, tenant: Tenant, tmp_path: Path) -> None:
    labelled, more = files(tmp_path)
    words = ["train", str(labelled), "--unlabeled", str(more), "--strategy", "head", "--suffix", "few", "--no-wait"]
    env = {"GRAFT_SERVER": server.url, "GRAFT_API_KEY": tenant.key}
    started = CliRunner().invoke(app, words, env=env)
    job = tenant.http.get(f"/v1/fine_tuning/jobs/{started.stdout.strip()}").json()
    stored = tenant.http.get(f"/v1/files/{job['unlabeled_file']}").json()
    assert (stored["purpose"], stored["task"], stored["rows"]) == ("unlabeled", "unlabeled-text", 150)
    events = work(server.settings, job["id"])
    told = [event.message for event in events if isinstance(event, Progress)]
    assert "150 rows without labels; left out: 3 are in the training file" in told
    report = tenant.http.get(f"/v1/fine_tuning/jobs/{job['id']}").json()["report"]
    ReportObject.model_validate(report)
    found = report["self_training"]
    assert (found["rows"], found["in_training"], found["rows_used"]) == (150, 3, 147)
    assert 0 < max(found["taken"]) <= 147
    assert found["reason"] in told
    tried = {each["name"]: each["score"] for each in report["strategies_tried"]}
    assert found["gain"] == tried["self-training"] - tried["head"]
    # It is a version of its own if held-out rows gain, and is not there if they do not.
    versions = [event.name for event in events if isinstance(event, VersionReady)]
    assert versions == (["head", "self-training"] if found["used"] else ["head"])
    assert report["strategy"] == versions[-1]
