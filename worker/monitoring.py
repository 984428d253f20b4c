"""Logs and metrics of the worker and of the trainer."""

from __future__ import annotations

import logging

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from models import logs
from models.settings import Settings

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


def configure_logs(settings: Settings) -> None:
    """Send this process's logs to stderr in the form of all others; the job's ids are on every line about one."""
    logs.configure(settings)
    # One line per message received and per task done, without the job's id: ours say more.
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(logging.WARNING)


def serve_metrics(port: int) -> None:
    """Answer `/metrics` on a port of its own; 0: do not."""
    if port:
        start_http_server(port)
