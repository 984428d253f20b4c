"""Every table, imported in one place so that the metadata is whole wherever a database is opened."""

from __future__ import annotations

from models.records import (
    audit,
    changes,
    customers,
    files,
    idempotency,
    job_events,
    jobs,
    keys,
    outcomes,
    retired_models,
    training_shares,
    usage,
    versions,
)
from models.records.base import Base

TABLES = (
    customers.Customer,
    keys.ApiKey,
    files.File,
    versions.Model,
    jobs.Job,
    job_events.JobEvent,
    versions.ModelVersion,
    versions.Alias,
    retired_models.RetiredModel,
    usage.UsageRecord,
    training_shares.TrainingShare,
    idempotency.IdempotentAnswer,
    changes.Change,
    outcomes.OutcomeRecord,
    audit.AuditEvent,
    audit.AuditTrim,
)
METADATA = Base.metadata
