"""Prometheus metrics. Names and labels are decided here and nowhere else."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.logging import route_template
from models.errors import Unavailable

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Metrics:
    """The metrics of one application. A registry of its own: two applications in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "graft_http_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "graft_http_request_seconds",
            "From the request's head to the end of its answer.",
            ["method", "route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge("graft_http_requests_in_flight", "Requests being answered.", registry=self.registry)
        self.predicted_rows = Counter("graft_predicted_rows", "Rows predicted.", registry=self.registry)
        self.embedded_rows = Counter("graft_embedded_rows", "Rows embedded.", registry=self.registry)

    def watch_jobs(self, count: Callable[[], dict[str, int]], queue_depth: Callable[[], int | None]) -> None:
        """Count jobs by state and messages in the queue at every scrape."""
        self.registry.register(_Jobs(count, queue_depth))


class _Jobs(Collector):
    def __init__(self, count: Callable[[], dict[str, int]], queue_depth: Callable[[], int | None]) -> None:
        self._count = count
        self._queue_depth = queue_depth

    def describe(self) -> Iterable[Metric]:
        """Return nothing: to register must not query the database."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Count now."""
        # Without the database the other metrics matter most: its family is left out, the scrape is not refused.
        counts: dict[str, int] = {}
        with contextlib.suppress(Unavailable):
            counts = self._count()
        if counts:
            jobs = GaugeMetricFamily("graft_jobs", "Jobs by state.", labels=["status"])
            for status, number in counts.items():
                jobs.add_metric([status], number)
            yield jobs
        depth = self._queue_depth()
        if depth is not None:
            yield GaugeMetricFamily("graft_queue_depth", "Wake-up messages that no worker has taken.", value=depth)


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
