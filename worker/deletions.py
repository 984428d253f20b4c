"""Deletions by other processes: what a worker's caches hold of them goes within one sweep."""

from __future__ import annotations

from models.records.changes import Changed
from models.services import caches, changes
from models.services.resources import Resources
from worker import workspace

# A worker that was away looks back as far as the change log is kept; later, some sweeps, for commits that came late.
_FIRST_S = 3_600.0
_SWEEPS = 12


class Deletions:
    """Follows the change log. One thread's."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._window_s = _FIRST_S
        self._seen: set[Changed] = set()
        self._log_is_full = False

    def follow(self) -> int:
        """Empty the caches of what was deleted since the last call; return how many deletions there were."""
        rows = changes.since(self._resources, self._window_s)
        new = [row for row in rows if row.kind in caches.EMPTYING and row not in self._seen]
        emptied = [caches.empty(self._resources, customer_id) for customer_id in sorted({row.subject for row in new})]
        if any(row.kind == "customer" for row in new):
            workspace.remove_orphaned_caches(self._resources)
        if self._log_is_full or not all(emptied):
            self._log_is_full = not self._resources.database.empty_log()
        self._seen = set(rows)
        self._window_s = max(60.0, _SWEEPS * self._resources.settings.sweep_s)
        return len(new)
