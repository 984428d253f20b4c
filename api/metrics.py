"""Prometheus metrics of the API and of predictors. Names and labels are decided here and in `worker.monitoring`."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.connection_limits import END_REASONS, Connections
from api.logging import route_template
from models.errors import Unavailable
from models.services.job_figures import JobFigures
from models.services.validation.pool import ValidationPool

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Metrics:
    """The metrics of one application. A registry of its own: two applications in one process do not mix."""

    def __init__(self, version: str, data_dir: Path) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "graft_http_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "graft_http_request_duration_seconds",
            "From the request's head to the end of its answer.",
            ["method", "route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge("graft_http_requests_in_flight", "Requests being answered.", registry=self.registry)
        self.predicted_rows = Counter("graft_predicted_rows", "Rows predicted.", registry=self.registry)
        self.embedded_rows = Counter("graft_embedded_rows", "Rows embedded.", registry=self.registry)
        build = Gauge("graft_build_info", "1; the version is a label.", ["version"], registry=self.registry)
        build.labels(version).set(1)
        free = Gauge("graft_data_free_bytes", "Free space where the data folder is.", registry=self.registry)
        free.set_function(lambda: free_bytes(data_dir))
        self._ended = Counter(
            "graft_http_connections_ended",
            "Connections that were refused or cut off, by why.",
            ["reason"],
            registry=self.registry,
        )
        for reason in END_REASONS:  # a series that begins with its first event hides that event from a rate
            self._ended.labels(reason)
        # Processor time, memory, open files, when it started: the figures of every process.
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def count_ended_connection(self, reason: str) -> None:
        """Count a connection, or a request behind a proxy, that was refused or cut off."""
        self._ended.labels(reason).inc()

    def watch_connections(self, connections: Connections) -> None:
        """Show how many connections there are, and why some were refused or cut off."""
        connections.on_end = self.count_ended_connection
        opened = Gauge("graft_http_connections", "Open connections.", registry=self.registry)
        opened.set_function(lambda: connections.total)

    def watch_uploads(self, pool: ValidationPool) -> None:
        """Show how many uploads wait and are read, and why processes that read them ended."""
        self.registry.register(_Uploads(pool))

    def watch_jobs(self, measure: Callable[[], JobFigures], queue_depth: Callable[[], int | None]) -> None:
        """Ask the database for the jobs and the broker for its messages at every scrape."""
        self.registry.register(_Jobs(measure, queue_depth))


class _Jobs(Collector):
    def __init__(self, measure: Callable[[], JobFigures], queue_depth: Callable[[], int | None]) -> None:
        self._measure = measure
        self._queue_depth = queue_depth

    def describe(self) -> Iterable[Metric]:
        """Return nothing: to register must not query the database."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Count now."""
        # Without the database the other metrics matter most: its families are left out, the scrape is not refused.
        figures: JobFigures | None = None
        with contextlib.suppress(Unavailable):
            figures = self._measure()
        depth = self._queue_depth()
        reachable = GaugeMetricFamily("graft_dependency_up", "1 if it can be reached.", labels=["dependency"])
        reachable.add_metric(["database"], float(figures is not None))
        reachable.add_metric(["broker"], float(depth is not None))
        yield reachable
        if figures is not None:
            yield _family("graft_jobs", "Jobs by state.", "status", figures.by_status)
            yield _family("graft_failed_jobs", "Failed jobs by whose fault it was.", "blame", figures.failed_by_blame)
            yield GaugeMetricFamily(
                "graft_oldest_queued_job_age_seconds",
                "For how long the oldest queued job exists; 0 if none is queued.",
                value=figures.oldest_queued_s,
            )
        if depth is not None:
            yield GaugeMetricFamily("graft_queue_messages", "Messages that no worker has taken.", value=depth)


class _Uploads(Collector):
    def __init__(self, pool: ValidationPool) -> None:
        self._pool = pool

    def collect(self) -> Iterable[Metric]:
        """Count now."""
        counts = self._pool.counts()
        states = {state: counts[state] for state in ("waiting", "running")}
        yield _family("graft_uploads", "Uploads that wait to be read, or are read.", "state", states)
        ended = CounterMetricFamily(
            "graft_upload_readers_ended", "Processes that read uploads and ended, by why.", labels=["reason"]
        )
        for reason, number in self._pool.ended.items():
            ended.add_metric([reason], number)
        yield ended


def _family(name: str, meaning: str, label: str, values: dict[str, int]) -> Metric:
    family = GaugeMetricFamily(name, meaning, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


def free_bytes(folder: Path) -> float:
    """Return the free space where the folder is, or will be."""
    while not folder.exists() and folder != folder.parent:  # it is made with the first file in it
        folder = folder.parent
    return float(shutil.disk_usage(folder).free)


class RequestMetrics:
    """ASGI: counts and times every request by route template."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Observe one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 499  # the client left before the answer

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self.metrics.in_flight.inc()
        try:
            await self.app(scope, receive, watch)
        finally:
            self.metrics.in_flight.dec()
            route = route_template(scope)
            self.metrics.requests.labels(scope["method"], route, str(status)).inc()
            self.metrics.seconds.labels(scope["method"], route).observe(time.perf_counter() - start)
