"""Changes after which predictors must drop cached entries."""

from __future__ import annotations

from models.records import changes
from models.records.changes import Changed
from models.services.resources import Resources


def since(resources: Resources, seconds: float) -> list[Changed]:
    """Return the changes of the last seconds, in order. Ask for more than since the last poll: rows come late."""
    with resources.database.reading() as session:
        return changes.since(session, seconds)
