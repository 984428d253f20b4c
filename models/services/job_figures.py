"""Figures of jobs for a scrape: their number by state, failures by blame, the age of the oldest queued one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from models.errors import Blame
from models.records import job_figures
from models.records.transitions import TRANSITIONS
from models.services.resources import Resources

BLAMES: tuple[Blame, ...] = get_args(Blame)


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
            by_status=dict.fromkeys(map(str, TRANSITIONS), 0) | job_figures.count_by_status(session),
            failed_by_blame=dict.fromkeys(map(str, BLAMES), 0) | job_figures.count_failed_by_blame(session),
            oldest_queued_s=job_figures.age_of_oldest_queued(session),
        )
