"""Moves of the alias `live` by jobs: at once for a model without a live version, else by a decision at their end."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from sqlalchemy.orm import Session

from models.datasets import tasks
from models.learning.contract.comparison import LiveComparison
from models.records import audit, changes, job_events, versions
from models.records.audit import SYSTEM
from models.records.jobs import Job
from models.records.versions import LIVE, Model, ModelVersion
from models.services import promotion
from models.services.promotion import Decision, NewVersion


def find_live_of_another_job(session: Session, job: Job, model: Model) -> ModelVersion | None:
    """Return the live version, of another job, with which the best one is to be compared; None where none is."""
    alias = versions.find_alias(session, model.id, LIVE)
    if alias is None or (job.promote or promotion.DEFAULT) != "auto":
        return None
    live = versions.find_version(session, model.id, alias.number)
    return live if live is not None and live.job_id != job.id else None


def add_published(session: Session, job: Job, model: Model, version: ModelVersion, *, promote: bool) -> None:
    """Write the event of a published version; move `live` to it unless the rule or another job's version forbids it."""
    score = version.metrics.get("score")
    text = f"Version {version.number} ({version.candidate}) published" + (f", score {score:.3f}." if score else ".")
    data = {"version": version.number, "candidate": version.candidate, "metrics": version.metrics}
    job_events.add(session, job.id, text, data=data)
    live = versions.find_alias(session, model.id, LIVE)
    current = versions.find_version(session, model.id, live.number) if live is not None else None
    may = job.promote == "always" or (job.promote != "never" and not promotion.is_below_majority(_new(job, version)))
    if promote and may and (current is None or current.job_id == job.id):
        _go_live(session, job, model, version)
        job.fine_tuned_model = model.full_name
    elif job.fine_tuned_model != model.full_name:
        # Under the model's name another version answers, or none.
        job.fine_tuned_model = f"{model.full_name}@{version.number}"


def decide(
    session: Session,
    job: Job,
    model: Model,
    best: ModelVersion,
    comparison: LiveComparison | None,
    *,
    compared_with: ModelVersion | None,
) -> Decision:
    """Move `live` to a job's best version if that may go live by itself, and write why.

    `compared_with`: the version that was live when the job was claimed, with which `comparison` was made.
    """
    versions.lock_model(session, model.id)
    alias = versions.find_alias(session, model.id, LIVE)
    current = versions.find_version(session, model.id, alias.number) if alias is not None else None
    if current is not None and current.number == best.number:
        why_not = _why_not_the_latest(session, best)
        decision = Decision(True, f"Version {best.number} is live since it was published.{why_not}")
        if why_not:
            level = "info" if job.strategy == "auto" else "warn"  # what was asked for is not what answers
            job_events.add(session, job.id, decision.reason, level=level, data={"version": best.number})
        return decision
    rule, serving = job.promote or promotion.DEFAULT, None if current is None else current.number
    if current is None or current.job_id == job.id:
        decision = promotion.decide(rule, _new(job, best), None, None, serving=serving)
    else:
        live = promotion.Live(current.number, _rows(current), current.metrics.get("score"))
        if compared_with is None and comparison is None:
            comparison = LiveComparison(live=0)  # nothing was live when the job began
        decision = promotion.decide(rule, _new(job, best), live, comparison, serving=serving)
    data: dict[str, Any] = {"version": best.number, "promoted": decision.promoted}
    if comparison is not None:
        data["comparison"] = asdict(comparison)
    job_events.add(session, job.id, decision.reason, level="info" if decision.promoted else "warn", data=data)
    if decision.promoted:
        _go_live(session, job, model, best)
    return decision


def _why_not_the_latest(session: Session, best: ModelVersion) -> str:
    """Say which version the job published after its best one, and why that is not live; "" if there is none."""
    latest = versions.find_latest_of_job(session, best.job_id)
    if latest is None or latest.number <= best.number:
        return ""
    return (
        f" Version {latest.number} ({latest.candidate}), published after it, is not better than '{best.candidate}' on "
        "the same held-out rows: promote it by hand to have it live."
    )


def describe(
    job: Job, decision: Decision, comparison: LiveComparison | None, *, compared_with: ModelVersion | None
) -> dict[str, Any]:
    """Return the decision as the job's report has it."""
    return {
        "promoted": decision.promoted,
        "reason": decision.reason,
        "rule": job.promote or promotion.DEFAULT,
        "live_version": None if compared_with is None else compared_with.number,
        "comparison": None if comparison is None else asdict(comparison),
    }


def _new(job: Job, version: ModelVersion) -> NewVersion:
    baseline = version.report.get("baseline") or {}
    majority = baseline.get("majority", version.metrics.get("baseline"))
    new = NewVersion(version.number, _rows(version), version.metrics.get("score"), majority)
    if "base" in baseline:
        return replace(new, beside="the base model as it is")
    if tasks.kind(job.task) == "text-regression":
        return replace(new, beside="always giving the mean of the training rows' values")
    return new


def _rows(version: ModelVersion) -> int | None:
    rows = (version.report.get("data") or {}).get("rows")
    return int(rows) if rows is not None else None


def _go_live(session: Session, job: Job, model: Model, version: ModelVersion) -> None:
    pointer = versions.point(session, model.id, LIVE, version.number)
    audit.record(
        session,
        SYSTEM,
        "alias.moved",
        job.customer_id,
        f"{model.id}@{LIVE}",
        before={"version": pointer.previous},
        after={"version": version.number, "job": job.id},
    )
    changes.record(session, "model", job.customer_id, model.name)
    text = f"Version {version.number} ({version.candidate}) is live: call it as '{model.name}'."
    job_events.add(session, job.id, text, data={"version": version.number, "fine_tuned_model": model.full_name})
