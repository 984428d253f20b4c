"""The audit log for the operator. Use cases write to it in their own transactions; nothing changes it afterwards.

What is older than the operator keeps is trimmed, which is itself an action in the log.
"""

from __future__ import annotations

from models.records import audit
from models.records.audit import AuditEvent, AuditFilter
from models.records.pages import Page
from models.services.resources import Resources

_ALL = AuditFilter()
_DAY_S = 86_400
_BATCH = 500


def list_page(
    resources: Resources, only: AuditFilter = _ALL, *, after: str | None = None, limit: int = 20
) -> Page[AuditEvent]:
    """Return the actions that pass the filter, newest first."""
    with resources.database.reading() as session:
        return audit.fetch_list(session, only, after=after, limit=limit)


def trim(resources: Resources) -> int:
    """Delete the actions of days that are older than the operator keeps, if it keeps them for so many; return how many.

    Safe to repeat, and for several at once. A day goes as a whole, so that the log says so once a day and not at every
    sweep. Short transactions: everybody who does anything writes to this table.
    """
    days = resources.settings.audit_keep_days
    if days is None:
        return 0
    with resources.database.transaction() as session:
        cutoff = float(int(resources.database.now(session) // _DAY_S - days) * _DAY_S)
        if not audit.has_older(session, cutoff):
            return 0
        audit.cut(session, resources.actor, cutoff)
    removed, found = 0, _BATCH
    while found == _BATCH:
        with resources.database.transaction() as session:
            found = audit.delete_oldest(session, cutoff, _BATCH)
        removed += found
    return removed
