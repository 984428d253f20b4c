"""Versions that write, published without training."""

from __future__ import annotations

import json
from pathlib import Path

from models.artifacts.folder import Artifact, write_artifact
from models.learning.contract.events import VersionReady
from models.records.customers import Customer
from models.records.versions import ModelVersion
from models.services import claims, files, jobs
from models.services.jobs import JobRequest
from models.services.resources import Resources
from tests.claiming import claim as claim_job

ROWS = [("Where is my card?", "On its way."), ("I was charged twice", "We pay it back."), ("Hi", "Hello!")]


def publish(resources: Resources, owner: Customer, made: Artifact, folder: Path) -> ModelVersion:
    """Publish a further version of the customer's model `writer`, promoted; files are written below `folder`."""
    data = folder / f"{owner.id}.jsonl"
    data.write_text("".join(json.dumps({"prompt": asked, "completion": text}) + "\n" for asked, text in ROWS * 5))
    file = files.create(resources, owner.id, files.NewFile(data, "rows.jsonl", task="text-generation"))
    job = jobs.submit(resources, owner.id, JobRequest(training_file=file.id, suffix="writer"))
    claim = claim_job(resources, job.id, "worker-of-the-tests")
    assert claim is not None
    write_artifact(made, folder / job.id)
    version = VersionReady("only", folder / job.id, {"score": 0.9}, {}, improves=True)
    return claims.publish(resources, claim, version, promote=True)
