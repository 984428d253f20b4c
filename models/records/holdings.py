"""What one customer has now, in numbers: what its quotas are compared with."""

from __future__ import annotations

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from models.records.clock import clock, read_clock
from models.records.files import RESULTS, File
from models.records.jobs import Job
from models.records.keys import ApiKey
from models.records.versions import Model, ModelVersion

DAY_S = 86_400.0


def sum_bytes(session: Session, customer_id: str) -> int:
    """Return the bytes of the customer's files and versions in the object store."""
    files = select(func.sum(File.bytes)).where(File.customer_id == customer_id)
    versions = select(func.sum(ModelVersion.bytes)).join(Model).where(Model.customer_id == customer_id)
    return int(session.scalar(files) or 0) + int(session.scalar(versions) or 0)


def count_files(session: Session, customer_id: str) -> int:
    """Count the files that the customer uploaded."""
    uploaded = (File.customer_id == customer_id, File.purpose != RESULTS)
    return session.scalar(select(func.count()).select_from(File).where(*uploaded)) or 0


def count_models(session: Session, customer_id: str) -> int:
    """Count the customer's models."""
    return session.scalar(select(func.count()).select_from(Model).where(Model.customer_id == customer_id)) or 0


def count_keys(session: Session, customer_id: str) -> int:
    """Count the customer's keys that are valid."""
    valid = (ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > clock()))
    statement = select(func.count()).select_from(ApiKey).where(ApiKey.customer_id == customer_id, *valid)
    return session.scalar(statement) or 0


def count_jobs_of_a_day(session: Session, customer_id: str) -> int:
    """Count the jobs that the customer created in the last 24 hours."""
    recent = (Job.customer_id == customer_id, Job.created_at > clock() - DAY_S)
    return session.scalar(select(func.count()).select_from(Job).where(*recent)) or 0


def seconds_until_a_job_is_a_day_old(session: Session, customer_id: str) -> float:
    """Return when the first of those jobs no longer counts, from now."""
    recent = (Job.customer_id == customer_id, Job.created_at > clock() - DAY_S)
    first = session.scalar(select(func.min(Job.created_at)).where(*recent))
    return DAY_S if first is None else max(0.0, first + DAY_S - read_clock(session))
