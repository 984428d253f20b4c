"""Jobs. A job's state changes only along `transitions`: by `move`, or by assignment to a held row."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Update, func, or_, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column, validates

from models.errors import NotFound
from models.records.base import Base
from models.records.clock import clock
from models.records.transitions import UNFINISHED, JobStatus, check, sources


class Job(Base):
    """One fine-tuning job. Its row decides what is done and is its own outbox; the queue only wakes workers up.

    `attempt` is the fencing token: every write of a running job names it together with `worker`.
    """

    __tablename__ = "jobs"
    __table_args__ = (Index("ix_jobs_status_created_at", "status", "created_at"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    customer_id: Mapped[str] = mapped_column(ForeignKey("customers.id", ondelete="CASCADE"), index=True)
    # A job outlives the model that it made: what was run and billed stays on record.
    model_id: Mapped[str | None] = mapped_column(ForeignKey("models.id", ondelete="SET NULL"), index=True)
    training_file_id: Mapped[str] = mapped_column(String(40))
    validation_file_id: Mapped[str | None] = mapped_column(String(40))
    unlabeled_file_id: Mapped[str | None] = mapped_column(String(40))
    result_file_id: Mapped[str | None] = mapped_column(String(40))  # until the customer deletes it

    # The request
    base_model: Mapped[str] = mapped_column(String(128))  # `auto` until the job's own run has chosen one
    base_choice: Mapped[dict[str, Any] | None]  # how that was; None: the customer or the settings named it
    suffix: Mapped[str] = mapped_column(String(64))
    task: Mapped[str] = mapped_column(String(40))
    strategy: Mapped[str] = mapped_column(String(20))
    seed: Mapped[int]
    hyperparameters: Mapped[dict[str, Any]]
    promote: Mapped[str | None] = mapped_column(String(10))  # None: the model's
    meta: Mapped[dict[str, str]] = mapped_column("metadata", default=dict)
    warnings: Mapped[list[dict[str, Any]]] = mapped_column(default=list)  # of its files, as validation found them

    # State and progress
    status: Mapped[JobStatus] = mapped_column(String(20))
    step: Mapped[str | None] = mapped_column(String(20))
    percent: Mapped[float] = mapped_column(default=0.0)
    seconds_remaining: Mapped[float | None]
    stop_requested: Mapped[str | None] = mapped_column(String(10))  # "cancel" or "pause", for a running job
    held: Mapped[bool] = mapped_column(default=False)  # paused with its customer, and to be queued again with it
    attempt: Mapped[int] = mapped_column(default=0)
    # Attempts that ended without a failure of the job's (paused, worker shut down, worker lost): they count as fences,
    # not as failures.
    excused: Mapped[int] = mapped_column(default=0)
    interruptions: Mapped[int] = mapped_column(default=0)  # attempts whose worker was lost
    worker: Mapped[str | None] = mapped_column(String(128))
    lease_until: Mapped[float | None]
    sent_at: Mapped[float | None]  # when its message was last handed to the broker
    created_at: Mapped[float]
    queued_at: Mapped[float | None]  # since when it waits; None: since it was created
    started_at: Mapped[float | None]
    claimed_at: Mapped[float | None]  # when the attempt began that runs
    finished_at: Mapped[float | None]

    # The result
    fine_tuned_model: Mapped[str | None] = mapped_column(String(255))  # set with the first servable version
    resolved: Mapped[dict[str, Any] | None]  # the hyperparameters as they became
    report: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]  # models.errors.JobError
    trained_rows: Mapped[int | None]
    trained_tokens: Mapped[int | None]

    @validates("status")
    def _check_status(self, _name: str, target: JobStatus) -> JobStatus:
        """Raise IllegalTransition when a job is moved in a way that does not exist."""
        if self.status is not None:  # a new row has none yet
            check(self.status, target)
        return target


def require(session: Session, customer_id: str, job_id: str) -> Job:
    """Return one of the customer's jobs; raises NotFound."""
    job = session.scalar(select(Job).where(Job.customer_id == customer_id, Job.id == job_id))
    if job is None:
        raise NotFound(kind="job", id=job_id)
    return job


def lock(session: Session, customer_id: str, job_id: str) -> Job:
    """Return one of the customer's jobs, held against other writers; raises NotFound.

    Every writer of a job's events holds its row: so their numbers become visible in order, and a stream that asks for
    those after the last one misses nothing.
    """
    statement = select(Job).where(Job.customer_id == customer_id, Job.id == job_id).with_for_update(key_share=True)
    job = session.scalar(statement.execution_options(populate_existing=True))
    if job is None:
        raise NotFound(kind="job", id=job_id)
    return job


def lock_unfinished(session: Session, customer_id: str) -> Sequence[Job]:
    """Return the customer's jobs that have not ended, held against other writers, with their state after the wait."""
    statement = select(Job).where(Job.customer_id == customer_id, Job.status.in_(UNFINISHED)).order_by(Job.id)
    locked = statement.with_for_update(key_share=True).execution_options(populate_existing=True)
    return session.scalars(locked).all()


def count_unfinished(session: Session, customer_id: str) -> int:
    """Count the customer's jobs that have not ended."""
    statement = select(func.count()).select_from(Job).where(Job.customer_id == customer_id, Job.status.in_(UNFINISHED))
    return session.scalar(statement) or 0


def find_unfinished_of_file(session: Session, customer_id: str, file_id: str) -> Job | None:
    """Return a job that still needs this file."""
    uses = or_(*(own == file_id for own in (Job.training_file_id, Job.validation_file_id, Job.unlabeled_file_id)))
    statement = select(Job).where(Job.customer_id == customer_id, Job.status.in_(UNFINISHED), uses)
    return session.scalar(statement.limit(1))


def forget_result_file(session: Session, customer_id: str, file_id: str) -> None:
    """Take a file that is deleted from the job that left it."""
    of_it = (Job.customer_id == customer_id, Job.result_file_id == file_id)
    session.execute(update(Job).where(*of_it).values(result_file_id=None))


def find_unfinished_of_model(session: Session, customer_id: str, model_id: str) -> Job | None:
    """Return a job that is still making a version of this model."""
    statement = select(Job).where(Job.customer_id == customer_id, Job.status.in_(UNFINISHED), Job.model_id == model_id)
    return session.scalar(statement.limit(1))


def find_latest_of_model(session: Session, customer_id: str, model_id: str) -> Job | None:
    """Return the newest job of this model."""
    statement = select(Job).where(Job.customer_id == customer_id, Job.model_id == model_id)
    return session.scalar(statement.order_by(Job.created_at.desc(), Job.id.desc()).limit(1))


def find_oldest_queued(session: Session, customer_id: str) -> str | None:
    """Return the id of the customer's job that is the next of its own."""
    statement = select(Job.id).where(Job.customer_id == customer_id, Job.status == "queued")
    return session.scalar(statement.order_by(Job.created_at, Job.id).limit(1))


def claim(session: Session, job_id: str, worker: str, lease_s: float, *, skip_locked: bool = False) -> Job | None:
    """Take a queued job: next attempt, owner, lease. None: another worker has it, or it is gone.

    With `skip_locked` a job whose row somebody else holds right now is passed over, not waited for.
    """
    if skip_locked:
        free = select(Job.id).where(Job.id == job_id).with_for_update(skip_locked=True, key_share=True)
        if session.scalar(free) is None:
            return None
    values = {
        "attempt": Job.attempt + 1,
        "worker": worker,
        "lease_until": clock() + lease_s,
        "started_at": func.coalesce(Job.started_at, clock()),
        "claimed_at": clock(),
        "stop_requested": None,
        "step": None,
        "percent": 0.0,
        "seconds_remaining": None,
    }
    return move(session, job_id, "running", values)


def write_as_owner(session: Session, job_id: str, attempt: int, worker: str, values: dict[str, Any]) -> Job | None:
    """Change a running job for one attempt. None: that attempt no longer owns it, and nothing changed.

    The job's row stays locked until the transaction ends: whatever else it writes is guarded by the same lease.
    """
    owned = (Job.id == job_id, Job.attempt == attempt, Job.worker == worker, Job.status == "running")
    return _returning(session, update(Job).where(*owned, Job.lease_until > clock()).values(**values))


def lock_dead(session: Session, job_id: str, attempt: int, *, worker: str | None = None) -> Job | None:
    """Lock and return a running job whose lease has expired, or that this worker has, which is known to be dead.

    None: the lease was renewed, or another sweeper was first.
    """
    expired = or_(Job.lease_until.is_(None), Job.lease_until <= clock())
    dead = (Job.status == "running", expired if worker is None else Job.worker == worker)
    statement = select(Job).where(Job.id == job_id, Job.attempt == attempt, *dead).with_for_update(key_share=True)
    return session.scalar(statement.execution_options(populate_existing=True))


def move(session: Session, job_id: str, target: JobStatus, values: dict[str, Any]) -> Job | None:
    """Change the state of a job that is in a state from which this one can be reached. None: it is not."""
    statement = update(Job).where(Job.id == job_id, Job.status.in_(sources(target))).values(status=target, **values)
    return _returning(session, statement)


def _returning(session: Session, statement: Update) -> Job | None:
    options = {"populate_existing": True, "synchronize_session": False}
    return session.scalars(statement.returning(Job), execution_options=options).one_or_none()


def mark_sent(session: Session, job_ids: Sequence[str]) -> None:
    """Note that these jobs' messages are with the broker."""
    # One by one and in order: two sweepers that each hold a row that the other needs would deadlock.
    for job_id in sorted(job_ids):
        session.execute(update(Job).where(Job.id == job_id, Job.status == "queued").values(sent_at=clock()))


def fetch_lost(session: Session, resend_after_s: float, limit: int) -> Sequence[tuple[str, bool]]:
    """Return queued jobs whose message is old or was never sent, oldest first: id, and whether it was ever sent."""
    old = or_(Job.sent_at.is_(None), Job.sent_at < clock() - resend_after_s)
    statement = select(Job.id, Job.sent_at.is_not(None)).where(Job.status == "queued", old)
    return [(row[0], row[1]) for row in session.execute(statement.order_by(Job.created_at, Job.id).limit(limit))]


def fetch_dead(session: Session, limit: int) -> Sequence[Job]:
    """Return running jobs whose lease has expired."""
    dead = (Job.status == "running", or_(Job.lease_until.is_(None), Job.lease_until <= clock()))
    return session.scalars(select(Job).where(*dead).order_by(Job.created_at).limit(limit)).all()


def fetch_held(session: Session) -> Sequence[tuple[str, str, int, str]]:
    """Return customer, id, attempt and worker of the running jobs whose lease has not expired."""
    held = (Job.status == "running", Job.lease_until > clock(), Job.worker.is_not(None))
    rows = session.execute(select(Job.customer_id, Job.id, Job.attempt, Job.worker).where(*held))
    return [(row[0], row[1], row[2], row[3] or "") for row in rows]


def running_attempts(session: Session, job_ids: Collection[str]) -> set[tuple[str, int]]:
    """Return job and attempt of the jobs that run now, of any customer, for the sweeper."""
    statement = select(Job.id, Job.attempt).where(Job.id.in_(job_ids), Job.status == "running")
    return {(row[0], row[1]) for row in session.execute(statement)}


def known_ids(session: Session, job_ids: Collection[str]) -> set[str]:
    """Return the ids that exist, of any customer: workers check their caches with it."""
    return set(session.scalars(select(Job.id).where(Job.id.in_(job_ids))))
