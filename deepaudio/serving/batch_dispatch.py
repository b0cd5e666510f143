"""Batch Dispatch (arXiv 1512.02595, section 7): what many streams ask for, computed together.

As soon as the device is free, everything that has arrived, up to a limit, is the next batch.
Nothing waits for a batch to fill, so a lone stream pays nothing, and under load batches grow by
themselves.

`RequestQueue` decides what comes next and has no thread, so that every order of events can be
tested. `BatchDispatch` runs it: a thread that gives one batch after another to a `Worker`.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from deepaudio.serving._request_queue import (
    Closed,
    Full,
    Job,
    Late,
    Request,
    RequestQueue,
    Stream,
)

__all__ = [
    "BatchDispatch",
    "Closed",
    "Full",
    "Job",
    "Late",
    "Observer",
    "Request",
    "RequestQueue",
    "Stream",
    "Worker",
]

# Seconds after which the thread looks for deadlines even though nothing has arrived.
_IDLE_SECONDS = 0.5


class Worker(Protocol):
    """What computes batches.

    Attributes:
        sizes: Batch sizes it is compiled for, rising; a batch is padded to the next.
        stateful: Whether a stream's requests build on each other. Then a batch holds one request
            of a stream at most, and a stream that loses a request is closed.
    """

    sizes: Sequence[int]
    stateful: bool

    def run(self, jobs: Sequence[Job], size: int) -> Sequence[Any]:
        """Computes a batch.

        Args:
            jobs: At most `size`, of different slots if stateful; none at all, to warm up.
            size: One of `sizes`.

        Returns:
            A result for each job, in their order.
        """
        ...

    def reset(self) -> None:
        """Forgets all state, after `run` has failed."""
        ...


# Told of every batch: its jobs, the size it was padded to, how long each request had waited, and
# how long it ran, in seconds.
Observer = Callable[[int, int, Sequence[float], float], None]


class BatchDispatch:
    """A thread that runs batches; all methods may be called from any thread.

    Attributes:
        worker: What computes.
        max_streams: Streams at a time.
    """

    def __init__(
        self,
        worker: Worker,
        *,
        max_streams: int,
        max_waiting: int,
        max_of_stream: int = 1,
        pace_seconds: float = 0.0,
        observe: Observer | None = None,
        name: str = "dispatch",
    ):
        """Compiles the worker for all its sizes, then begins to serve.

        Args:
            worker: What computes; only the dispatch's own thread calls it from now on.
            max_streams: As in `RequestQueue`.
            max_waiting: As in `RequestQueue`.
            max_of_stream: As in `RequestQueue`.
            pace_seconds: Batches begin this far apart at least. Where the device is a processor
                that has other work too, batches that are a little larger leave it more time for
                that; a request that finds the device idle for so long is still begun at once.
            observe: Told of every batch.
            name: Of the thread.
        """
        self.worker = worker
        self._queue = RequestQueue(
            most=worker.sizes[-1],
            stateful=worker.stateful,
            max_streams=max_streams,
            max_waiting=max_waiting,
            max_of_stream=max_of_stream,
        )
        self.max_streams = max_streams
        self._pace = pace_seconds
        self._observe = observe
        self._condition = threading.Condition()
        self._stopping = False
        for size in worker.sizes:
            worker.run([], size)
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Requests that are not in a batch yet."""
        return self._queue.waiting

    @property
    def streams(self) -> int:
        """Streams that are open."""
        return self._queue.streams

    def open(self) -> Stream:
        """Begins a stream; `close` must end it.

        Raises:
            Full: All are taken.
            Closed: The dispatch has been stopped.
        """
        with self._condition:
            self._check()
            return self._queue.open()

    def submit(self, stream: Stream, payload: Any, *, seconds: float | None = None) -> Future:
        """Adds a request of a stream.

        Args:
            stream: Of `open`.
            payload: For the worker.
            seconds: How long it may wait until its batch begins; None for as long as it takes.

        Returns:
            Its result to be. It fails with `Late`, with `Closed` if the stream is closed before
            it is its turn, or with what the worker raised.

        Raises:
            Full: Too many are waiting.
            Closed: The stream is closed, or the dispatch has been stopped.
        """
        with self._condition:
            self._check()
            now = time.monotonic()
            deadline = None if seconds is None else now + seconds
            future = self._queue.submit(stream, payload, now=now, deadline=deadline)
            self._condition.notify()
            return future

    def close(self, stream: Stream) -> None:
        """Ends a stream; what it has not been answered is dropped."""
        with self._condition:
            self._queue.close(stream)

    def stop(self) -> None:
        """Ends the thread when its batch is done; what waits fails with `Closed`."""
        with self._condition:
            self._stopping = True
            self._queue.close_all(Closed("the server is stopping"))
            self._condition.notify()
        self._thread.join()

    def _check(self):
        if self._stopping:
            raise Closed("the server is stopping")

    def _serve(self):
        while True:
            with self._condition:
                batch = self._queue.take(time.monotonic())
                while not batch:
                    if self._stopping:
                        return
                    self._condition.wait(_IDLE_SECONDS)
                    batch = self._queue.take(time.monotonic())
                jobs = self._queue.jobs(batch)
            next_begin = time.monotonic() + self._pace
            self._run(batch, jobs)
            time.sleep(max(next_begin - time.monotonic(), 0.0))

    def _run(self, batch: list[Request], jobs: list[Job]) -> None:
        begin = time.monotonic()
        size = next(size for size in self.worker.sizes if size >= len(jobs))
        error, results = None, []
        try:
            results = self.worker.run(jobs, size)
            if len(results) != len(jobs):
                raise RuntimeError(f"{len(jobs)} jobs had {len(results)} results")
        except Exception as fault:
            error = fault
            self.worker.reset()
        with self._condition:
            self._queue.finish(error)
        if self._observe is not None:
            waited = [begin - request.submitted for request in batch]
            self._observe(len(jobs), size, waited, time.monotonic() - begin)
        for number, request in enumerate(batch):
            if error is not None:
                request.future.set_exception(error)
            else:
                request.future.set_result(results[number])
