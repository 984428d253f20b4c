"""What a worker and its trainer do with a job, in the process of a test."""

from __future__ import annotations

from models.backbones import loading, registry
from models.learning.contract.events import Finished, TrainEvent, VersionReady
from models.learning.training import train
from models.services import claims
from models.services.resources import open_resources
from models.settings import Settings
from tests.claiming import claim as claim_job
from worker.background_tasks import Retry
from worker.workspace import Workspace, prepare


def work(settings: Settings, job_id: str) -> list[TrainEvent]:
    """Train a job on its base, publish its versions as they come, and finish it."""
    resources = open_resources(settings)
    events: list[TrainEvent] = []
    try:
        claim = claim_job(resources, job_id, "worker-of-the-tests:0")
        assert claim is not None
        workspace = Workspace.of(claim, settings.cache_dir)
        request = prepare(resources, claim, workspace, Retry(limit_s=10.0))
        entry = registry.find(settings, request.base_model)
        base = loading.load(entry, device="cpu", precision=settings.precision, threads=1)
        for event in train(request, base, stop=lambda: False):
            events.append(event)
            if isinstance(event, VersionReady):
                claims.publish(resources, claim, event, promote=True)
        assert isinstance(events[-1], Finished)
        claims.finish(resources, claim, events[-1])
        workspace.remove(job_ended=True)
    finally:
        resources.close()
    return events
