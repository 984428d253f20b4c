"""`python -m worker.health`: whether the worker of this machine or container goes round, by its own metrics.

For health checks: exit status 0 if it does, 1 and a line that says why if not. Its process may exist and its port may
answer while the sweeper's thread is dead or the consumer hangs. A broker or a database that is away is not its fault.
"""

from __future__ import annotations

import sys
import time
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from models import settings as graft_settings

# Listing all objects for orphans is one step of the sweeper, and the longest.
_SWEEP_S = 300.0
_TICK_S = 60.0
_TIMEOUT_S = 5.0


def complaint(metrics: str, now: float) -> str | None:
    """Return what is wrong with a worker by its metrics at the time `now`, or None."""
    values = {
        sample.name: sample.value for family in text_string_to_metric_families(metrics) for sample in family.samples
    }
    swept_s = now - values.get("graft_worker_last_sweep_timestamp_seconds", 0.0)
    if swept_s > _SWEEP_S:
        return f"the sweeper has ended no step for {swept_s:.0f} s"
    ticked_s = now - values.get("graft_worker_consumer_last_tick_timestamp_seconds", 0.0)
    if values.get("graft_worker_consumer_connected") and ticked_s > _TICK_S:
        return f"the consumer has not gone round for {ticked_s:.0f} s"
    return None


def main() -> int:
    """Ask the worker; return the exit status."""
    port = graft_settings.load().worker_metrics_port
    if not port:
        sys.stderr.write("GRAFT_WORKER_METRICS_PORT is 0: the worker cannot be asked\n")
        return 1
    # Not through a proxy that the environment may name.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"http://127.0.0.1:{port}/metrics", timeout=_TIMEOUT_S) as answer:
            wrong = complaint(answer.read().decode(), time.time())
    except OSError as error:
        wrong = f"no answer: {error}"
    if wrong:
        sys.stderr.write(f"{wrong}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
