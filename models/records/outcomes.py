"""Outcomes of the candidates of finished jobs: numbers alone, from which later jobs on the same base learn.

No row says whose job it was, and none can be traced to one: there are no ids, names, labels or texts in it, not even a
time. So rows outlive their customer, and a customer's deletion leaves them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Index, String, delete, func, insert, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.learning.contract.outcomes import Outcome
from models.records.base import Base


class OutcomeRecord(Base):
    """One candidate of one job. `seq` is the order in which they came."""

    __tablename__ = "outcomes"
    __table_args__ = (Index("ix_outcomes_base_model_task_seq", "base_model", "task", "seq"),)

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    base_model: Mapped[str] = mapped_column(String(128))
    base_revision: Mapped[str] = mapped_column(String(80))
    task: Mapped[str] = mapped_column(String(40))
    candidate: Mapped[str] = mapped_column(String(40))
    numbers: Mapped[dict[str, Any]]  # the other fields of an Outcome


_COLUMNS = ("base_revision", "task", "candidate")


def add(session: Session, base_model: str, outcomes: Sequence[Outcome]) -> None:
    """Write the outcomes of one job."""
    for outcome in outcomes:
        numbers = asdict(outcome)
        columns = {name: numbers.pop(name) for name in _COLUMNS}
        session.execute(insert(OutcomeRecord).values(base_model=base_model, numbers=numbers, **columns))


def fetch_newest(session: Session, base_model: str, task: str, limit: int) -> list[Outcome]:
    """Return the newest ones of a base model and a task, oldest first. Each carries the revision that it is of."""
    statement = (
        select(OutcomeRecord)
        .where(OutcomeRecord.base_model == base_model, OutcomeRecord.task == task)
        .order_by(OutcomeRecord.seq.desc())
        .limit(limit)
    )
    rows = reversed(session.scalars(statement).all())
    return [Outcome.from_dict({**row.numbers, **{name: getattr(row, name) for name in _COLUMNS}}) for row in rows]


def forget(session: Session, *, keep: int) -> int:
    """Delete all but the newest of each base model and task; return how many."""
    gone = 0
    groups = (OutcomeRecord.base_model, OutcomeRecord.task)
    crowded = select(*groups).group_by(*groups).having(func.count() > keep)
    for base_model, task in session.execute(crowded).all():
        mine = (OutcomeRecord.base_model == base_model, OutcomeRecord.task == task)
        newest = select(OutcomeRecord.seq).where(*mine).order_by(OutcomeRecord.seq.desc())
        last = session.scalar(newest.offset(keep - 1).limit(1))
        statement = delete(OutcomeRecord).where(*mine, OutcomeRecord.seq < last).returning(OutcomeRecord.seq)
        gone += len(session.execute(statement).all())
    return gone
