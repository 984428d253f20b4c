"""Logs and metrics of the worker and of the trainer."""

from __future__ import annotations

import importlib.metadata
import logging
import shutil
import time
from typing import get_args

import structlog
from prometheus_client import Counter, Gauge, Histogram, start_http_server

from models import logs
from models.records.transitions import AttemptOutcome
from models.settings import Settings

log = structlog.get_logger(__name__)

ATTEMPTS = Counter("graft_worker_attempts_total", "Attempts at training by how they ended.", ["outcome"])
ATTEMPT_SECONDS = Histogram(
    "graft_worker_attempt_duration_seconds",
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
SWEEP_FAILURES = Counter("graft_worker_sweep_failures_total", "Steps of the sweeper that failed.", ["what"])
LAST_SWEEP = Gauge("graft_worker_last_sweep_timestamp_seconds", "When the sweeper last ended a step, well or not.")
CONSUMER_CONNECTED = Gauge("graft_worker_consumer_connected", "1 while the consumer is connected to the broker.")
CONSUMER_SEEN = Gauge(
    "graft_worker_consumer_last_tick_timestamp_seconds", "When the consumer's loop last went round while connected."
)
BUILD = Gauge("graft_build_info", "1; the version is a label.", ["version"])
DATA_FREE = Gauge("graft_data_free_bytes", "Free space where the data folder is.")

# A series that appears with its first event has no rate at that event: all of them are there from the start.
for _outcome in get_args(AttemptOutcome):
    ATTEMPTS.labels(_outcome)
    ATTEMPT_SECONDS.labels(_outcome)
for _step in ("dead_leases", "lost_messages", "orphans", "expired_rows", "storage_usage", "audit_trims"):
    SWEPT.labels(_step)
    SWEEP_FAILURES.labels(_step)


def configure_logs(settings: Settings) -> None:
    """Send this process's logs to stderr in the form of all others; the job's ids are on every line about one."""
    logs.configure(settings)
    # One line per message received and per task done, without the job's id: the worker's own lines carry it.
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(logging.WARNING)


def serve_metrics(settings: Settings) -> None:
    """Answer `/metrics` on a port of its own; port 0: do not. A port that is taken is logged: training goes on."""
    if not settings.worker_metrics_port:
        return
    BUILD.labels(importlib.metadata.version("graft")).set(1)
    LAST_SWEEP.set(time.time())  # the first sweep is still to come
    DATA_FREE.set_function(lambda: shutil.disk_usage(settings.data_dir).free)
    try:
        start_http_server(settings.worker_metrics_port)
    except OSError as error:
        log.error("metrics_not_served", port=settings.worker_metrics_port, error=str(error))
