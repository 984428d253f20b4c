"""What predictors must forget."""

from __future__ import annotations

from collections.abc import Sequence

from models.records import changes
from models.records.changes import Change
from models.services.resources import Resources


def since(resources: Resources, seconds: float) -> Sequence[Change]:
    """The changes of the last seconds, in order. Ask for more than the time since the last poll: rows come late."""
    with resources.database.reading() as session:
        return changes.since(session, seconds)
