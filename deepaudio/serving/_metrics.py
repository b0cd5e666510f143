"""What the server measures of itself, as Prometheus reads it."""

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters, gauges and histograms of one server; `task` is what is computed, e.g. live speech.

    Attributes:
        requests: `deepaudio_requests_total`, by endpoint and status.
        request_seconds: `deepaudio_request_seconds`, from a request's beginning to its end.
        live_seconds: `deepaudio_live_seconds`, from a message's arrival to its answer, by kind:
            partial or final.
    """

    def __init__(self):
        """Nothing has been measured yet."""
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "deepaudio_requests",
            "Requests, by endpoint and status",
            ["endpoint", "status"],
            registry=self._registry,
        )
        self.request_seconds = self._histogram("request_seconds", "From request to end", "endpoint")
        self.live_seconds = self._histogram("live_seconds", "From live sound to answer", "kind")
        self._waited = self._histogram("wait_seconds", "In a queue before a batch", "task")
        self._ran = self._histogram("batch_seconds", "That a batch took", "task")
        self._batch = self._histogram("batch_size", "Requests in a batch", "task", _SIZES)
        self._padding = Counter(
            "deepaudio_padding", "Rows that only padded a batch", ["task"], registry=self._registry
        )
        self._queue = self._gauge("queue_length", "Requests waiting for a batch", ["task"])
        self._streams = self._gauge("streams", "Open streams", ["task"])
        self._connections = self._gauge("live_connections", "Open WebSockets", [])

    def watch(self, task: str, waiting: Callable[[], int], streams: Callable[[], int]) -> None:
        """Has the gauges of a task read when somebody asks."""
        self._queue.labels(task).set_function(waiting)
        self._streams.labels(task).set_function(streams)

    def watch_connections(self, count: Callable[[], int]) -> None:
        """Has the number of WebSockets read when somebody asks."""
        self._connections.set_function(count)

    def observer(self, task: str) -> Callable[[int, int, Sequence[float], float], None]:
        """What a `BatchDispatch` tells of its batches."""
        batch, padding = self._batch.labels(task), self._padding.labels(task)
        waits, ran = self._waited.labels(task), self._ran.labels(task)

        def observe(jobs: int, size: int, waited: Sequence[float], seconds: float) -> None:
            batch.observe(jobs)
            padding.inc(size - jobs)
            ran.observe(seconds)
            for wait in waited:
                waits.observe(wait)

        return observe

    def text(self) -> bytes:
        """All of it, in Prometheus' text form."""
        return generate_latest(self._registry)

    def _histogram(self, name, text, label, buckets=_SECONDS):
        return Histogram(
            f"deepaudio_{name}", text, [label], buckets=buckets, registry=self._registry
        )

    def _gauge(self, name, text, labels):
        return Gauge(f"deepaudio_{name}", text, labels, registry=self._registry)
