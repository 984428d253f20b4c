"""The states of a job and the only ways between them. A job begins as `queued`: its files were checked at upload."""

from __future__ import annotations

from typing import Literal

from models.errors import GraftError

JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled", "paused"]
# A job's state after an attempt that was stopped or given back.
Released = Literal["queued", "paused", "cancelled"]
# A job's state after an attempt; "lost": the job belongs to another attempt by now.
AttemptOutcome = Literal["succeeded", "failed", Released, "lost"]

TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    "queued": frozenset({"running", "paused", "failed", "cancelled"}),
    # Back to queued: the attempt is over, another one follows.
    "running": frozenset({"succeeded", "failed", "cancelled", "paused", "queued"}),
    "paused": frozenset({"queued", "cancelled"}),
    "succeeded": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}
ENDED = frozenset(state for state, following in TRANSITIONS.items() if not following)
UNFINISHED = frozenset(TRANSITIONS) - ENDED


class IllegalTransition(GraftError):
    """A job cannot go that way: a mistake in the program, not of the caller."""

    message = "A job cannot go from '{source}' to '{target}'."


def check(source: JobStatus, target: JobStatus) -> None:
    """Raise IllegalTransition unless a job may go from one state to the other."""
    if target not in TRANSITIONS.get(source, frozenset()):
        raise IllegalTransition(source=source, target=target)


def sources(target: JobStatus) -> tuple[JobStatus, ...]:
    """Return the states from which a job may reach this one, for the WHERE of a guarded UPDATE."""
    return tuple(sorted(source for source, following in TRANSITIONS.items() if target in following))
