"""Beam searches of many streams, in processes of their own, so that all cores take part."""

import contextlib
import dataclasses
import itertools
import multiprocessing
import queue
import signal
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection

import numpy as np

from deepaudio.decoding import BeamSearch
from deepaudio.tasks.recognizer import Heard, Segmenter


class DecoderError(RuntimeError):
    """A decoding process has ended, and with it what it knew of its streams."""


_Item = tuple[int, str, object]


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How streams are decoded.

    Attributes:
        search: What reads words from probabilities.
        frame_seconds: Length of a frame in seconds.
        delay_seconds: Taken off all times.
    """

    search: BeamSearch
    frame_seconds: float
    delay_seconds: float


class _Desk:
    """The streams that one process decodes."""

    def __init__(self, decoding: Decoding):
        self._decoding = decoding
        self._segmenters: dict[int, Segmenter] = {}

    def do(self, number: int, what: str, given: object) -> Heard | None:
        """Begins, feeds, finishes or forgets a stream."""
        if what == "open":
            n_best, start = given
            self._segmenters[number] = Segmenter(
                self._decoding.search,
                frame_seconds=self._decoding.frame_seconds,
                n_best=n_best,
                start=start - self._decoding.delay_seconds,
            )
        elif what == "feed":
            final = self._segmenters[number].feed(given)
            return Heard(tuple(final), self._segmenters[number].partial())
        elif what == "finish":
            return Heard(tuple(self._segmenters[number].finish()), "")
        else:
            self._segmenters.pop(number, None)
        return None


def _serve(connection: Connection, decoding: Decoding) -> None:
    """A decoding process: lists of items come in, results go out one by one."""
    # The server says when to stop; a signal to the whole group must not cut answers off.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    desk = _Desk(decoding)
    connection.send((None, None))
    while True:
        try:
            items = connection.recv()
        except (EOFError, OSError):  # the server has ended without a word
            return
        for ticket, *item in items:
            try:
                result = desk.do(*item)
            except Exception as error:
                result = error
            if ticket is not None:
                connection.send((ticket, result))


class _Process:
    """A decoding process, seen from the server."""

    def __init__(self, decoding: Decoding, number: int):
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, decoding), name=f"decoder-{number}", daemon=True
        )
        self._process.start()
        theirs.close()
        self.streams = 0
        self.broken = False
        self._lock = threading.Lock()
        self._tickets = 0
        self._futures: dict[int, Future] = {}
        self._outbox: queue.SimpleQueue = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=target, name=f"decoder-{number}", daemon=True)
            for target in (self._send, self._receive)
        ]

    def wait(self) -> None:
        """Waits until it is ready."""
        self._connection.recv()
        for thread in self._threads:
            thread.start()

    def put(self, item: _Item, future: Future | None) -> None:
        """Hands over an item; the future gets its result."""
        ticket = None
        with self._lock:
            if self.broken:
                raise DecoderError("a decoding process has ended")
            if future is not None:
                ticket = self._tickets = self._tickets + 1
                self._futures[ticket] = future
        self._outbox.put((ticket, *item))

    def stop(self) -> None:
        """Ends it; what it has not done is dropped."""
        self._process.kill()
        self._process.join()
        self._outbox.put(None)
        for thread in self._threads:
            thread.join()
        self._connection.close()

    def _send(self):
        while (item := self._outbox.get()) is not None:
            items = [item]
            # Whatever has come together goes together.
            while not self._outbox.empty() and items[-1] is not None:
                items.append(self._outbox.get())
            if items[-1] is None:
                return
            try:
                self._connection.send(items)
            except OSError:  # the process has ended, as the other thread is about to find out
                return

    def _receive(self):
        while True:
            try:
                ticket, result = self._connection.recv()
            except (EOFError, OSError):
                break
            with self._lock:
                future = self._futures.pop(ticket)
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
        with self._lock:
            self.broken = True
            left, self._futures = self._futures, {}
        for future in left.values():
            future.set_exception(DecoderError("a decoding process has ended"))


class _Thread:
    """A decoding thread, for tests and where processes cannot be had; as `_Process`."""

    broken = False

    def __init__(self, decoding: Decoding):
        self.streams = 0
        self._desk = _Desk(decoding)
        self._pool = ThreadPoolExecutor(1, "decoder")

    def wait(self) -> None:
        """It is ready at once."""

    def put(self, item: _Item, future: Future | None) -> None:
        """As `_Process.put`."""

        def do():
            try:
                result = self._desk.do(*item)
            except Exception as error:
                future.set_exception(error)
            else:
                if future is not None:
                    future.set_result(result)

        self._pool.submit(do)

    def stop(self) -> None:
        """Ends it."""
        self._pool.shutdown()


class DecodedStream:
    """One stream's beam search; its results come in the order of the calls."""

    def __init__(self, place: _Process | _Thread, number: int, n_best: int, start: float):
        self._place, self._number = place, number
        place.streams += 1
        place.put((number, "open", (n_best, start)), None)

    def feed(self, log_probs: np.ndarray) -> Future:
        """Takes (frames, outputs) log probabilities; a `Heard` comes."""
        return self._ask("feed", log_probs)

    def finish(self) -> Future:
        """Ends the last segment; a `Heard` comes."""
        return self._ask("finish", None)

    def close(self) -> None:
        """Forgets the stream."""
        self._place.streams -= 1
        with contextlib.suppress(DecoderError):
            self._place.put((self._number, "close", None), None)

    def _ask(self, what, given):
        future = Future()
        self._place.put((self._number, what, given), future)
        return future


class Decoders:
    """Processes that decode; every stream stays with one of them."""

    def __init__(self, decoding: Decoding, processes: int):
        """Starts them; `wait` must follow.

        Args:
            decoding: How streams are decoded.
            processes: How many; 0 for a thread of this process.
        """
        self._places = [_Process(decoding, number) for number in range(processes)]
        self._places = self._places or [_Thread(decoding)]
        self._numbers = itertools.count()

    def wait(self) -> None:
        """Waits until all are ready."""
        for place in self._places:
            place.wait()

    @property
    def broken(self) -> bool:
        """Whether a process has ended by itself."""
        return any(place.broken for place in self._places)

    def open(self, *, n_best: int = 1, start: float = 0.0) -> DecodedStream:
        """Begins a stream where the fewest are; `close` must end it.

        Args:
            n_best: Transcripts a segment.
            start: Time of the stream's beginning in seconds.

        Raises:
            DecoderError: The process has ended.
        """
        place = min(self._places, key=lambda place: place.streams)
        return DecodedStream(place, next(self._numbers), n_best, start)

    def stop(self) -> None:
        """Ends them."""
        for place in self._places:
            place.stop()
