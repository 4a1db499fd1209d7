"""What `/metrics` tells: requests by endpoint and status, how long they took, bytes, and gauges of the rooms above.

The hot path adds to plain integers; the Prometheus families are made from them when somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds: the upper bounds of the latency histogram."""

GONE = 499
"""Counted for a caller who hung up before the answer."""


class Count:
    """The requests of one endpoint."""

    __slots__ = ("buckets", "in_flight", "labels", "seconds", "statuses")

    def __init__(self, method: str, path: str) -> None:
        self.labels = [method, path]
        self.in_flight = 0
        self.seconds = 0.0
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.statuses: dict[int, int] = {}

    def begin(self) -> None:
        """A request came."""
        self.in_flight += 1

    def end(self, status: int, seconds: float) -> None:
        """It was answered with `status` after `seconds`."""
        self.in_flight -= 1
        self.seconds += seconds
        self.buckets[bisect_left(BUCKETS, seconds)] += 1
        self.statuses[status] = self.statuses.get(status, 0) + 1

    def cumulative(self) -> Iterator[tuple[str, float]]:
        """The histogram as Prometheus wants it: each bound with all requests up to it."""
        total = 0
        for bound, count in zip((*map(str, BUCKETS), "+Inf"), self.buckets, strict=True):
            total += count
            yield bound, total


class Metrics(Collector):
    """One daemon's figures, in a registry of its own. `received` and `sent` count bytes of bodies."""

    def __init__(self) -> None:
        self.received = 0
        self.sent = 0
        self._counts: list[Count] = []
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def endpoint(self, method: str, path: str) -> Count:
        """The place where requests of one endpoint are counted."""
        count = Count(method, path)
        self._counts.append(count)
        return count

    def gauge(self, name: str, help: str, value: Callable[[], float]) -> None:  # noqa: A002
        """Publish `value()` as `name`, read whenever somebody asks."""
        Gauge(name, help, registry=self._registry).set_function(value)

    def render(self) -> bytes:
        """Everything, in Prometheus' text format 0.0.4."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """The families of this daemon's requests."""
        labels = ["method", "path"]
        requests = CounterMetricFamily("grid_http_requests", "Requests answered", labels=[*labels, "status"])
        seconds = HistogramMetricFamily("grid_http_request_seconds", "From head to answer", labels=labels)
        flight = GaugeMetricFamily("grid_http_in_flight", "Requests being answered", labels=labels)
        for count in self._counts:
            for status, times in count.statuses.items():
                requests.add_metric([*count.labels, str(status)], times)
            seconds.add_metric(count.labels, list(count.cumulative()), count.seconds)
            flight.add_metric(count.labels, count.in_flight)
        size = CounterMetricFamily("grid_http_body_bytes", "Bytes of bodies", labels=["direction"])
        size.add_metric(["in"], self.received)
        size.add_metric(["out"], self.sent)
        yield from (requests, seconds, flight, size)
