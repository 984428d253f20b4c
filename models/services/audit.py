"""The audit log for the operator. Use cases write to it in their own transactions; nothing changes it afterwards."""

from __future__ import annotations

from models.records import audit
from models.records.audit import AuditEvent, AuditFilter
from models.records.pages import Page
from models.services.resources import Resources

_ALL = AuditFilter()


def list_page(
    resources: Resources, only: AuditFilter = _ALL, *, after: str | None = None, limit: int = 20
) -> Page[AuditEvent]:
    """Return the actions that pass the filter, newest first."""
    with resources.database.reading() as session:
        return audit.fetch_list(session, only, after=after, limit=limit)
