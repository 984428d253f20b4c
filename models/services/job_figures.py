"""What a scrape asks the database: how many jobs there are, whose fault failures are, how long the oldest waits."""

from __future__ import annotations

from dataclasses import dataclass

from models.records import job_figures, jobs
from models.records.transitions import TRANSITIONS
from models.services.resources import Resources

BLAMES = ("user", "server")


@dataclass(frozen=True, slots=True)
class JobFigures:
    """Jobs of all customers at one moment. Every state and every blame is there, with 0 if need be."""

    by_status: dict[str, int]
    failed_by_blame: dict[str, int]
    oldest_queued_s: float  # since it was created


def measure(resources: Resources) -> JobFigures:
    """Count now. Raises DatabaseUnavailable."""
    with resources.database.reading() as session:
        return JobFigures(
            by_status=dict.fromkeys(map(str, TRANSITIONS), 0) | jobs.count_by_status(session),
            failed_by_blame=dict.fromkeys(BLAMES, 0) | job_figures.count_failed_by_blame(session),
            oldest_queued_s=job_figures.age_of_oldest_queued(session),
        )
