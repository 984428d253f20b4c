"""Outcomes of earlier jobs, for those who train next. The operator may turn it off, then nothing is kept or read."""

from __future__ import annotations

from sqlalchemy.orm import Session

from models.learning.contract.events import Finished
from models.learning.contract.outcomes import Outcome
from models.records import outcomes
from models.records.jobs import Job
from models.services.resources import Resources

# Of a base model and a task. More would cost every job time, and the newest are of the present revision.
KEPT = 500


def earlier(resources: Resources, job: Job) -> tuple[Outcome, ...]:
    """What earlier jobs on the same base and task found out, whoever's they were."""
    if not resources.settings.experience:
        return ()
    with resources.database.reading() as session:
        return tuple(outcomes.fetch_newest(session, job.base_model, job.task, KEPT))


def keep(session: Session, resources: Resources, job: Job, finished: Finished) -> None:
    """Write what a job found out, in the transaction in which its attempt ends it: so once per job."""
    if resources.settings.experience:
        outcomes.add(session, job.base_model, finished.outcomes)
