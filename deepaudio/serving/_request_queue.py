"""Which requests are computed next; `deepaudio.serving.batch_dispatch` hands its names out."""

import collections
import dataclasses
import heapq
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any


class Full(RuntimeError):
    """A queue is full, or every slot for a stream is taken: come again later."""


class Late(TimeoutError):
    """A request was not begun by its deadline."""


class Closed(RuntimeError):
    """The stream, or the whole dispatch, takes no more requests."""


@dataclasses.dataclass(eq=False)
class Stream:
    """Requests that are answered in order.

    Attributes:
        slot: Place of its state on the device, which no other open stream has.
        begun: Whether a request of it has been given to the worker.
        closed: Whether it takes no more requests.
        waiting: Its requests that are not in a batch yet.
        running: How many of them are in the running batch.
    """

    slot: int
    begun: bool = False
    closed: bool = False
    waiting: "collections.deque[Request]" = dataclasses.field(default_factory=collections.deque)
    running: int = 0


@dataclasses.dataclass(eq=False)
class Request:
    """One thing to compute.

    Attributes:
        stream: Whose.
        payload: For the worker.
        submitted: When it came, in seconds of the queue's clock.
        deadline: When it is of no use any more, in seconds of that clock; None for never.
        future: Where its result goes.
    """

    stream: Stream
    payload: Any
    submitted: float
    deadline: float | None
    future: Future


@dataclasses.dataclass(frozen=True)
class Job:
    """What a worker sees of a request.

    Attributes:
        slot: Of its stream's state.
        fresh: Whether this is the stream's first request, so that what the slot holds is another's.
        payload: What was submitted.
    """

    slot: int
    fresh: bool
    payload: Any


class RequestQueue:
    """Which requests are computed next: fair, bounded, and forgetting nothing.

    Streams with waiting requests take turns: in every batch each has one request before any has
    a second, and the one that has waited longest comes first. Methods are not thread-safe, and at
    most one batch runs at a time.
    """

    def __init__(
        self, *, most: int, stateful: bool, max_streams: int, max_waiting: int, max_of_stream: int
    ):
        """An empty queue.

        Args:
            most: Requests in a batch.
            stateful: As in `Worker`.
            max_streams: Open streams; their slots are 0 to max_streams - 1.
            max_waiting: Waiting requests of all streams together.
            max_of_stream: Waiting requests of one stream.

        Raises:
            ValueError: A number is below 1.
        """
        limits = {"most": most, "max_streams": max_streams}
        limits |= {"max_waiting": max_waiting, "max_of_stream": max_of_stream}
        for name, value in limits.items():
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1")
        self._most, self._stateful = most, stateful
        self._max_waiting, self._max_of_stream = max_waiting, max_of_stream
        self._free = list(range(max_streams))  # a heap: low slots first
        self._streams: set[Stream] = set()
        # Streams with waiting requests, in the order of their turns.
        self._turns: collections.deque[Stream] = collections.deque()
        self._waiting = 0
        self._running: list[Request] = []

    @property
    def waiting(self) -> int:
        """Requests that are not in a batch yet."""
        return self._waiting

    @property
    def streams(self) -> int:
        """Slots that are taken."""
        return len(self._streams)

    def open(self) -> Stream:
        """Begins a stream.

        Raises:
            Full: All slots are taken.
        """
        if not self._free:
            raise Full(f"all {len(self._streams)} streams are taken")
        stream = Stream(heapq.heappop(self._free))
        self._streams.add(stream)
        return stream

    def submit(
        self, stream: Stream, payload: Any, *, now: float, deadline: float | None = None
    ) -> Future:
        """Adds a request.

        Args:
            stream: An open one.
            payload: For the worker.
            now: The time in seconds.
            deadline: As in `Request`.

        Returns:
            Its result to be. Cancelled before its batch begins, it is not computed.

        Raises:
            Closed: The stream takes no more requests.
            Full: Too many are waiting.
        """
        if stream.closed:
            raise Closed("the stream is closed")
        if len(stream.waiting) >= self._max_of_stream:
            raise Full(f"{len(stream.waiting)} requests of this stream are waiting")
        if self._waiting >= self._max_waiting:
            raise Full(f"{self._waiting} requests are waiting")
        request = Request(stream, payload, now, deadline, Future())
        if not stream.waiting:
            self._turns.append(stream)
        stream.waiting.append(request)
        self._waiting += 1
        return request.future

    def close(self, stream: Stream) -> None:
        """Ends a stream: what waits is dropped, and its slot is free when its batch is done."""
        self._end(stream, Closed("the stream is closed"))

    def take(self, now: float) -> list[Request]:
        """Begins the next batch.

        Args:
            now: The time in seconds; a request whose deadline has passed fails with `Late`.

        Returns:
            The requests; none if none is waiting. `finish` must follow before the next `take`.
        """
        batch: list[Request] = []
        served: collections.deque[Stream] = collections.deque()
        while self._turns and len(batch) < self._most:
            stream = self._turns.popleft()
            request = self._next(stream, now)
            if request is not None:
                batch.append(request)
                stream.running += 1
            if stream.waiting:
                (served if self._stateful else self._turns).append(stream)
        self._turns.extend(served)
        self._running = batch
        return batch

    def jobs(self, batch: Sequence[Request]) -> list[Job]:
        """What the worker is to see of a batch that has been taken; once for every batch."""
        found = []
        for request in batch:
            stream = request.stream
            found.append(Job(stream.slot, not stream.begun, request.payload))
            stream.begun = True
        return found

    def finish(self, error: BaseException | None = None) -> None:
        """Ends the running batch; whoever calls it has set the results.

        Args:
            error: Why there are none; then the states of all streams are lost too, and the streams
                are closed.
        """
        running, self._running = self._running, []
        for request in running:
            request.stream.running -= 1
            self._free_slot(request.stream)
        if error is not None and self._stateful:
            self.close_all(error)

    def close_all(self, error: BaseException) -> None:
        """Ends all streams; what waits fails with the error."""
        for stream in list(self._streams):
            self._end(stream, error)

    def _next(self, stream: Stream, now: float) -> Request | None:
        """The stream's next request that is still wanted, if it has one."""
        while stream.waiting:
            request = stream.waiting.popleft()
            self._waiting -= 1
            late = request.deadline is not None and now >= request.deadline
            if late and request.future.set_running_or_notify_cancel():
                waited = now - request.submitted
                request.future.set_exception(Late(f"not begun within {waited:.1f} s"))
            elif not late and request.future.set_running_or_notify_cancel():
                return request
            # What follows in a stream with state builds on what was dropped.
            if self._stateful:
                self._end(stream, Closed("a request of the stream was dropped"))
        return None

    def _end(self, stream: Stream, error: BaseException) -> None:
        stream.closed = True
        if stream.waiting and stream in self._turns:
            self._turns.remove(stream)
        dropped, stream.waiting = stream.waiting, collections.deque()
        self._waiting -= len(dropped)
        self._free_slot(stream)
        for request in dropped:
            if request.future.set_running_or_notify_cancel():
                request.future.set_exception(error)

    def _free_slot(self, stream: Stream) -> None:
        if stream.closed and not stream.running and stream in self._streams:
            self._streams.remove(stream)
            heapq.heappush(self._free, stream.slot)
