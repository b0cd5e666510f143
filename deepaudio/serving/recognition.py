"""Recognition of many streams at once; knows nothing of the web."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future

import numpy as np
import soxr

from deepaudio.serving._decoders import Decoders, Decoding
from deepaudio.serving._workers import RecognitionWorker
from deepaudio.serving.batch_dispatch import BatchDispatch, Observer
from deepaudio.tasks.listening import Piece, PieceCutter
from deepaudio.tasks.recognizer import Heard, Recognizer

LIVE_SECONDS, FILE_SECONDS = 0.4, 4.0


class RecognitionService:
    """One network and its decoders, shared by all streams of one kind.

    Attributes:
        sample_rate: Of the model, in Hz.
        word_separator: What stands between words.
        dispatch: What gathers pieces into batches.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        decoders: Decoders,
        *,
        seconds: float,
        sizes: Sequence[int],
        max_streams: int,
        pace_seconds: float = 0.0,
        wait_seconds: float | None = None,
        observe: Observer | None = None,
        name: str = "recognition",
    ):
        """Compiles the network for every batch size.

        Args:
            recognizer: Of a network that hears live sound.
            decoders: Of `make_decoders`.
            seconds: Length of a piece: `LIVE_SECONDS`, or `FILE_SECONDS` where a whole sound is
                there at once, as longer pieces cost less.
            sizes: Batch sizes, rising.
            max_streams: Streams at a time.
            pace_seconds: As `BatchDispatch` takes it.
            wait_seconds: A piece that has waited longer fails its stream; None for no limit.
            observe: As `BatchDispatch` takes it.
            name: Of the thread.

        Raises:
            ValueError: The model needs whole sounds.
        """
        parts = recognizer.parts()
        self.sample_rate = recognizer.sample_rate
        self.word_separator = recognizer.word_separator
        worker = RecognitionWorker(parts, seconds=seconds, sizes=sizes, slots=max_streams)
        self.dispatch = BatchDispatch(
            worker,
            max_streams=max_streams,
            max_waiting=max_streams,
            pace_seconds=pace_seconds,
            observe=observe,
            name=name,
        )
        self._decoders = decoders
        self._task, self._network = parts.task, worker.network
        self._wait_seconds = wait_seconds

    def open(self, *, n_best: int = 1, start: float = 0.0) -> "RecognitionStream":
        """Begins a stream; `close` must end it.

        Args:
            n_best: Transcripts a segment.
            start: Time of its beginning in seconds.

        Raises:
            Full: All streams are taken.
            Closed: The service has been stopped.
            DecoderError: A decoder has failed.
        """
        return self.stream_type(self, n_best, start)

    def stop(self) -> None:
        """Ends the service; requests that wait fail."""
        self.dispatch.stop()


def make_decoders(recognizer: Recognizer, processes: int) -> Decoders:
    """Starts the decoders of a recognizer, which several services may share; then `wait` for them.

    Args:
        recognizer: Of a network that hears live sound.
        processes: How many; 0 for a thread of this process.
    """
    parts = recognizer.parts()
    decoding = Decoding(parts.search, recognizer.frame_seconds, parts.delay_seconds)
    return Decoders(decoding, processes)


class RecognitionStream:
    """One sound that is being heard.

    What it says is what `Recognizer.stream` says, however many streams there are beside it. Its
    methods are to be awaited one after another.
    """

    def __init__(self, service: RecognitionService, n_best: int, start: float):
        self._service = service
        self._cutter = PieceCutter(service._task, service._network)
        self._stream = service.dispatch.open()
        try:
            self._decoded = service._decoders.open(n_best=n_best, start=start)
        except BaseException:
            service.dispatch.close(self._stream)
            raise

    async def hear(self, samples: np.ndarray) -> AsyncIterator[Heard]:
        """Takes sound.

        Args:
            samples: (n,) float32 mono, at the service's rate; any length.

        Yields:
            What is known after every piece that is whole by now.

        Raises:
            Full: Too much is waiting.
            Late: A piece was not begun in time. The stream is of no use any more.
            Closed: So it was before, or the service has been stopped.
        """
        for piece in self._cutter.feed(samples):
            yield await self.compute(piece)

    async def finish(self) -> AsyncIterator[Heard]:
        """Ends the sound; as `hear`, and what is left becomes final."""
        for piece in self._cutter.finish():
            yield await self.compute(piece)
        yield await _of(self._decoded.finish())

    def close(self) -> None:
        """Ends the stream at any time; whoever awaits a method of it gets an error."""
        self._service.dispatch.close(self._stream)
        self._decoded.close()

    async def compute(self, piece: Piece) -> Heard:
        """One piece, through network and search."""
        service = self._service
        log_probs = await _of(
            service.dispatch.submit(self._stream, piece, seconds=service._wait_seconds)
        )
        return await _of(self._decoded.feed(log_probs))


def _of(future: Future) -> asyncio.Future:
    return asyncio.wrap_future(future)


class Resampler:
    """A stream of 16-bit samples of any rate to floats of the model's rate."""

    def __init__(self, rate_in: int, rate_out: int):
        """Begins.

        Args:
            rate_in: Of what comes, in Hz.
            rate_out: Of what is wanted, in Hz.
        """
        self._stream = None
        if rate_in != rate_out:
            self._stream = soxr.ResampleStream(rate_in, rate_out, 1, dtype="float32")

    def feed(self, pcm: bytes) -> np.ndarray:
        """16-bit little-endian mono samples to (n,) float32 in [-1, 1).

        Raises:
            ValueError: There is half a sample.
        """
        if len(pcm) % 2:
            raise ValueError(f"{len(pcm)} bytes are no whole number of 16-bit samples")
        samples = np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32768)
        return samples if self._stream is None else self._stream.resample_chunk(samples)

    def finish(self) -> np.ndarray:
        """What the filter still holds, (n,) float32."""
        if self._stream is None:
            return np.zeros(0, np.float32)
        return self._stream.resample_chunk(np.zeros(0, np.float32), last=True)


@contextlib.contextmanager
def closing(stream: RecognitionStream):
    """Closes a stream in the end, whatever happens."""
    try:
        yield stream
    finally:
        stream.close()


# What `open` makes; a measurement may put another in its place.
RecognitionService.stream_type = RecognitionStream
