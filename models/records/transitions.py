"""The states of a job and the only ways between them."""

from __future__ import annotations

from models.errors import GraftError

TRANSITIONS: dict[str, frozenset[str]] = {
    "validating_files": frozenset({"queued", "failed", "cancelled"}),
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
    """Somebody tried to move a job in a way that does not exist: a mistake in the program, not of the caller."""

    message = "A job cannot go from '{source}' to '{target}'."


def check(source: str, target: str) -> None:
    """Raise IllegalTransition unless a job may go from one state to the other."""
    if target not in TRANSITIONS.get(source, frozenset()):
        raise IllegalTransition(source=source, target=target)


def sources(target: str) -> tuple[str, ...]:
    """The states from which a job may reach this one: what a guarded UPDATE puts into its WHERE."""
    return tuple(sorted(source for source, following in TRANSITIONS.items() if target in following))
