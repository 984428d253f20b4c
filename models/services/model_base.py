"""The base of a model: settled once it has a version, or a job that makes one; open (`auto`) before."""

from __future__ import annotations

from sqlalchemy.orm import Session

from models.backbones.registry import AUTO
from models.records import job_events, job_lists, versions
from models.records.jobs import Job
from models.records.versions import Model
from models.services import base_candidates


def is_settled(session: Session, job: Job, model: Model) -> bool:
    """Return whether the model's base may not change any more, whatever this job chooses."""
    if model.base_model == AUTO:
        return False
    other = job_lists.find_unfinished_on_base(session, model.id, model.base_model, besides=job.id)
    return other is not None or versions.has_versions(session, model.id)


def follow(session: Session, job: Job, model: Model) -> None:
    """Give a claimed job the base that another job has settled for its model since it was submitted."""
    if job.base_model == AUTO and is_settled(session, job, model):
        job.base_model, job.base_choice = model.base_model, base_candidates.describe_settled(model.base_model)
        text = f"The base model is {job.base_model}. {job.base_choice['reason']}"
        job_events.add(session, job.id, text, data=job.base_choice)
