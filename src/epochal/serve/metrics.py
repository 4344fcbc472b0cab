"""What the server measures of itself, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

MEDIUM = CONTENT_TYPE_LATEST

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """Counts and times of one server."""

    def __init__(self, waiting: Callable[[], float]) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter("epochal_requests", "Requests by path and status.", ("path", "status"), registry=self._registry)
        self.items = Counter("epochal_items", "Items that were predicted.", registry=self._registry)
        self.dropped = Counter("epochal_dropped", "Requests dropped because the client left or time was up.", registry=self._registry)
        self.seconds = Histogram(
            "epochal_request_seconds", "From the head of a request to its answer.", ("path",), buckets=_SECONDS, registry=self._registry
        )
        self.batch_items = Histogram(
            "epochal_batch_items", "Inputs computed together.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256), registry=self._registry
        )
        self.batch_seconds = Histogram("epochal_batch_seconds", "Duration of a batch.", buckets=_SECONDS, registry=self._registry)
        Gauge("epochal_waiting", "Requests that wait to be computed.", registry=self._registry).set_function(waiting)

    def batch(self, count: int, seconds: float) -> None:
        """Count a batch."""
        self.batch_items.observe(count)
        self.batch_seconds.observe(seconds)

    def text(self) -> bytes:
        """Return all in the text format."""
        return generate_latest(self._registry)
