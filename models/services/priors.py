"""Outcomes of earlier jobs for later ones. The operator may turn it off, then nothing is kept or read."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from models.learning.contract.events import Finished
from models.learning.contract.outcomes import Outcome
from models.records import outcomes
from models.records.jobs import Job
from models.services.resources import Resources

# Per base model and task. More would cost every job time, and the newest are of the present revision.
KEPT = 500


def fetch(resources: Resources, job: Job, bases: Sequence[str] = ()) -> tuple[Outcome, ...]:
    """Return the outcomes of earlier jobs on the same task and base, or on these bases, of all customers."""
    if not resources.settings.experience:
        return ()
    with resources.database.reading() as session:
        found = [outcomes.fetch_newest(session, base, job.task, KEPT) for base in bases or (job.base_model,)]
    return tuple(outcome for each in found for outcome in each)


def keep(session: Session, resources: Resources, job: Job, finished: Finished) -> None:
    """Write a job's outcomes, in the transaction in which its attempt ends it: so once per job."""
    if resources.settings.experience:
        outcomes.add(session, job.base_model, finished.outcomes)
