"""Statistics of a retrieval server for `/metrics` (Prometheus) and `/stats` (JSON), from one registry."""

import collections
import math
import time
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from ..base import Retriever, counters_of
from .batching import BatchingSearcher

_RECENT = 1000
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class ServerStatistics:
    """
    Counts of one server since its start.

    Args:
        searcher ([`~tspo_trl.search.serving.batching.BatchingSearcher`]):
            Searcher with the batches to count. The statistics include the counters of its retriever.
    """

    def __init__(self, searcher: BatchingSearcher):
        self._retriever = searcher.retriever
        self._start = time.monotonic()
        self._recent: collections.deque[float] = collections.deque(maxlen=_RECENT)
        self._registry = CollectorRegistry()
        ours: dict[str, Any] = {"namespace": "tspo_trl", "registry": self._registry}
        self._requests = Counter("requests", "Requests to /retrieve. Status 499: the client left", ["status"], **ours)
        self._seconds = Histogram("request_seconds", "Seconds from request to answer", buckets=_SECONDS, **ours)
        self._failed = Counter("failed_queries", "Queries whose search failed", **ours)
        self._queries = Counter("queries", "Queries that were searched", **ours)
        self._batches = Histogram("batch_size", "Queries in a batch", buckets=_BATCH_SIZES, **ours)
        Gauge("waiting_queries", "Queries that wait for a batch", **ours).set_function(lambda: searcher.waiting)
        self._registry.register(_RetrieverCollector(searcher.retriever))
        ProcessCollector(registry=self._registry)
        searcher.on_batch = self._count_batch

    def count_request(self, status: int, seconds: float) -> None:
        """Count a request with the HTTP status and the seconds of its answer. The status is 499 if the client left."""
        self._requests.labels(str(status)).inc()
        self._seconds.observe(seconds)
        self._recent.append(seconds)

    def count_failed(self, queries: int) -> None:
        """Count queries whose search failed."""
        self._failed.inc(queries)

    def exposition(self) -> bytes:
        """Return all statistics in Prometheus's text format."""
        return generate_latest(self._registry)

    def summary(self) -> dict[str, Any]:
        """Return the main numbers. Latencies are of the last 1,000 requests. Memory is `None` except on Linux."""
        totals = self._totals()
        batches, recent = int(totals["tspo_trl_batch_size_count"]), sorted(self._recent)
        return {
            "uptime_seconds": time.monotonic() - self._start,
            "requests": int(totals["tspo_trl_requests_total"]),
            "queries": int(totals["tspo_trl_queries_total"]),
            "failed_queries": int(totals["tspo_trl_failed_queries_total"]),
            "waiting_queries": int(totals["tspo_trl_waiting_queries"]),
            "batches": batches,
            "mean_batch_size": totals["tspo_trl_batch_size_sum"] / batches if batches else None,
            "latency_p50_seconds": _percentile(recent, 0.5),
            "latency_p99_seconds": _percentile(recent, 0.99),
            "resident_memory_bytes": totals.get("process_resident_memory_bytes"),
            "retriever": counters_of(self._retriever),
        }

    def _count_batch(self, queries: int) -> None:
        self._queries.inc(queries)
        self._batches.observe(queries)

    def _totals(self) -> dict[str, float]:
        """Sum every sample over its labels, by name."""
        totals: dict[str, float] = collections.defaultdict(float)
        for metric in self._registry.collect():
            for sample in metric.samples:
                totals[sample.name] += sample.value
        return totals


class _RetrieverCollector(Collector):
    def __init__(self, retriever: Retriever):
        self._retriever = retriever

    def collect(self) -> Iterator[CounterMetricFamily]:
        for name, value in counters_of(self._retriever).items():
            yield CounterMetricFamily(f"tspo_trl_retriever_{name}", f"The retriever's counter {name}", value=value)


def _percentile(ordered: list[float], fraction: float) -> float | None:
    """Return the percentile by nearest rank, or `None` if there are no values."""
    return ordered[max(math.ceil(fraction * len(ordered)) - 1, 0)] if ordered else None
