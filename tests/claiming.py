"""A claim on one job by its id, where a test has others in the queue; workers ask for the next one (`claim_next`)."""

from __future__ import annotations

from models.records import jobs
from models.services import claims
from models.services.claims import Claim
from models.services.resources import Resources


def claim(resources: Resources, job_id: str, worker: str) -> Claim | None:
    """Take a job as `claims.claim_next` does, whoever's turn it is. None: it is not queued."""
    with resources.database.transaction() as session:
        job = jobs.claim(session, job_id, worker, resources.settings.lease_s)
        return None if job is None else claims.begin(session, job, worker)
