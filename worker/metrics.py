"""What a worker counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, start_http_server

ATTEMPTS = Counter("graft_worker_attempts_total", "Attempts at training by how they ended.", ["outcome"])
ATTEMPT_SECONDS = Histogram(
    "graft_worker_attempt_seconds",
    "Length of attempts at training.",
    ["outcome"],
    buckets=(1, 2, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600),
)
FIRST_VERSION_SECONDS = Histogram(
    "graft_worker_first_version_seconds",
    "From the claim of a job to its first published version.",
    buckets=(0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300, 600),
)
RUNNING = Gauge("graft_worker_running", "1 while this worker trains.")
TRAINERS_STARTED = Counter("graft_worker_trainers_started_total", "Trainer processes started.")
SWEPT = Counter("graft_worker_swept_total", "What the sweeper found and mended.", ["what"])


def serve(port: int) -> None:
    """Answer `/metrics` on a port of its own; 0: do not."""
    if port:
        start_http_server(port)
