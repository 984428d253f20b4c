"""Prometheus metrics of the predictor: its adapters, its passes, its knowledge of keys. Read at every scrape."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:  # it brings torch, which a control plane never loads
    from models.serving.pass_counts import PassCounts
    from models.serving.predictor import Predictor


class ServingMetrics(Collector):
    """Counts that the predictor keeps anyway, in Prometheus' words."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def describe(self) -> Iterable[Metric]:
        """Nothing: there is no conflict to be found out at registration."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Read now."""
        yield from self._adapters()
        yield from _passes([runner.counts for runner in self._predictor.runners()])
        age_s = self._predictor.access.age_s
        if age_s is not None:
            yield GaugeMetricFamily(
                "graft_directory_age_seconds", "Since the last look at changes of keys and aliases.", value=age_s
            )

    def _adapters(self) -> Iterable[Metric]:
        cache, disk = self._predictor.cache, self._predictor.artifacts
        for name, meaning, count in (
            ("hits", "Adapters that were found in memory.", cache.hits),
            ("loads", "Adapters that were not, and were loaded.", cache.loads),
            ("evictions", "Adapters that made room for others.", cache.evictions),
        ):
            yield CounterMetricFamily(f"graft_adapter_cache_{name}", meaning, value=count)
        for name, meaning, number in (
            ("graft_adapter_cache_bytes", "Adapters in memory.", cache.bytes),
            ("graft_adapter_cache_limit_bytes", "What adapters in memory may take.", cache.limit_bytes),
            ("graft_adapter_cache_adapters", "How many adapters are in memory.", len(cache)),
            ("graft_adapter_disk_bytes", "Adapters on the local disk.", disk.disk_bytes),
        ):
            yield GaugeMetricFamily(name, meaning, value=number)


def _passes(counts: list[PassCounts]) -> Iterable[Metric]:
    labels = ["base_model"]
    passes = CounterMetricFamily("graft_engine_passes", "Passes through the base.", labels=labels)
    rows = CounterMetricFamily("graft_engine_rows", "Rows in these passes.", labels=labels)
    tokens = CounterMetricFamily("graft_engine_tokens", "Tokens in these passes.", labels=labels)
    waiting = GaugeMetricFamily("graft_engine_waiting_rows", "Rows that no pass has taken yet.", labels=labels)
    waits = HistogramMetricFamily(
        "graft_engine_queue_wait_seconds", "From a request's arrival to its first pass.", labels=labels
    )
    for one in counts:
        name = [one.base_model]
        passes.add_metric(name, one.passes)
        rows.add_metric(name, one.rows)
        tokens.add_metric(name, one.tokens)
        waiting.add_metric(name, one.waiting_rows)
        waits.add_metric(name, one.queue_wait_s.cumulative(), one.queue_wait_s.total)
    yield from (passes, rows, tokens, waiting, waits)
