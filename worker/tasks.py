"""The only task. A message is a wake-up call: it may come late, twice, or for a job that is over."""

from __future__ import annotations

from worker import running
from worker.app import app


@app.task(name="graft.train")
def train(job_id: str) -> None:
    """See one job through, if nobody else has it. A lost call is sent again by the sweeper."""
    running.supervisor().run(job_id)
