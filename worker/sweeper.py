"""Repair of what crashes leave behind: lost messages, expired leases, orphaned objects. What is stored is metered,
and the audit log trimmed.

Every worker sweeps; each step is a guarded write, so that any number may do it at once. A deployment without a
worker that runs all the time (scaled to zero) runs `python -m worker.sweeper --once` from a cron job.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections.abc import Callable

import structlog

from models import settings as graft_settings
from models.services import audit, sweeping, usage
from models.services.resources import Resources, open_resources
from worker import identity, monitoring
from worker.deletions import Deletions

log = structlog.get_logger(__name__)

# Looking for orphans lists the whole object store.
_ORPHANS_EVERY_S = 600.0


class Sweeper:
    """A thread that sweeps every `sweep_s` until it is stopped."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._deletions = Deletions(resources)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sweep, name="sweeper", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; does not wait for a sweep that is under way."""
        self._stopped.set()

    def _sweep(self) -> None:
        next_orphans = time.monotonic() + random.uniform(0.1, 1.0) * _ORPHANS_EVERY_S  # noqa: S311
        pause_s = 0.0  # at the start: the worker before this one may have been killed in mid-job
        while not self._stopped.wait(pause_s):
            # Workers that were started together should not sweep together.
            pause_s = self._resources.settings.sweep_s * random.uniform(0.75, 1.25)  # noqa: S311
            orphans = time.monotonic() >= next_orphans
            if orphans:
                next_orphans = time.monotonic() + _ORPHANS_EVERY_S
            sweep_once(self._resources, orphans=orphans, deletions=self._deletions)


def sweep_once(resources: Resources, *, orphans: bool, deletions: Deletions | None = None) -> bool:
    """Do every step once; return whether all succeeded. Errors are logged; one step's do not stop the others."""
    steps: list[tuple[str, Callable[[], int]]] = [
        ("dead_leases", lambda: len(sweeping.reclaim_dead(resources, identity.is_dead))),
        ("lost_messages", lambda: sweeping.resend_lost(resources)),
        ("deletions", (deletions or Deletions(resources)).follow),
    ]
    if orphans:
        steps += [
            ("orphans", lambda: sweeping.delete_orphans(resources)),
            ("expired_rows", lambda: sweeping.forget_expired(resources)),
            ("storage_usage", lambda: usage.record_storage(resources)),
            ("audit_trims", lambda: audit.trim(resources)),
        ]
    succeeded = True
    for what, step in steps:
        try:
            found = step()
        except Exception:
            # Database or broker away, most of the time. The next sweep does it.
            log.exception("sweep_failed", what=what)
            monitoring.SWEEP_FAILURES.labels(what).inc()
            succeeded = False
        else:
            if found:
                monitoring.SWEPT.labels(what).inc(found)
                log.info("swept", what=what, found=found)
        monitoring.LAST_SWEEP.set_to_current_time()
    return succeeded


def main() -> int:
    """Run the command line: `--once` sweeps once, and the exit status is 1 if a step failed."""
    parser = argparse.ArgumentParser(prog="python -m worker.sweeper", description=__doc__)
    parser.add_argument("--once", action="store_true", help="sweep once and exit; else until interrupted")
    arguments = parser.parse_args()
    settings = graft_settings.load()
    monitoring.configure_logs(settings)
    resources = open_resources(settings)
    if arguments.once:
        return 0 if sweep_once(resources, orphans=True) else 1
    sweeper = Sweeper(resources)
    sweeper.start()
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        sweeper.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
