"""Uploads to results: each runs in a thread of its own and shares batches with the others."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from deepaudio import audio
from deepaudio.data.notes import Notes
from deepaudio.serving._uploads import Sound
from deepaudio.serving._workers import TranscriptionWorker, VocodingWorker
from deepaudio.serving.batch_dispatch import BatchDispatch, Full, Observer, Stream
from deepaudio.serving.recognition import RecognitionService, closing
from deepaudio.tasks.recognizer import Recognition
from deepaudio.tasks.transcriber import Transcriber
from deepaudio.tasks.vocoder import StudentWindow, Vocoder
from deepaudio.tasks.vocoding import StudentTask


class Gate:
    """Lets so many jobs run at a time, and so many more wait."""

    def __init__(self, most: int):
        """Open.

        Args:
            most: Jobs that run; twice as many may wait.
        """
        self._most, self._inside = most, 0
        self._places = asyncio.Semaphore(most)

    async def __aenter__(self) -> None:
        """Waits for a place.

        Raises:
            Full: Too many wait.
        """
        if self._inside >= 3 * self._most:
            raise Full(f"{self._inside} uploads are being worked on")
        self._inside += 1
        try:
            await self._places.acquire()
        except BaseException:
            self._inside -= 1
            raise

    async def __aexit__(self, *error: object) -> None:
        """Makes room."""
        self._inside -= 1
        self._places.release()


class _Threaded:
    """Work in threads whose windows go through a dispatch."""

    def __init__(self, worker, *, jobs: int, observe: Observer | None, name: str):
        self.dispatch = BatchDispatch(
            worker, max_streams=jobs, max_waiting=jobs, observe=observe, name=name
        )
        self._threads = ThreadPoolExecutor(jobs, name)

    async def _run[Result](self, work: Callable[[Stream], Result]) -> Result:
        """Runs the work; if the caller is cancelled, its next window fails and so it ends."""
        stream = self.dispatch.open()
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, work, stream)
        finally:
            self.dispatch.close(stream)

    def stop(self) -> None:
        """Ends the service; what is not done fails."""
        self.dispatch.stop()
        self._threads.shutdown()


class TranscriptionService(_Threaded):
    """Piano recordings to notes.

    Attributes:
        dispatch: What gathers windows into batches.
        sample_rate: Of the model, in Hz.
    """

    def __init__(
        self,
        transcriber: Transcriber,
        *,
        jobs: int,
        sizes: Sequence[int],
        observe: Observer | None = None,
    ):
        """Compiles the network for every batch size.

        Args:
            transcriber: The model.
            jobs: Recordings at a time.
            sizes: Batch sizes, rising.
            observe: As `BatchDispatch` takes it.
        """
        self._transcriber = transcriber
        self.sample_rate = transcriber.sample_rate
        worker = TranscriptionWorker(transcriber, sizes=sizes)
        super().__init__(worker, jobs=jobs, observe=observe, name="transcription")

    async def transcribe(self, sound: Sound, thresholds: dict[str, float | None]) -> Notes:
        """The notes of a sound.

        Args:
            sound: At the service's rate.
            thresholds: `onset_threshold` and `frame_threshold`, as `Transcriber.notes` takes them.

        Raises:
            ApiError: It is no sound, or too long.
            Full: Too much is waiting.
            Closed: The service has been stopped.
        """

        def work(stream):
            def predict(window):
                return self.dispatch.submit(stream, window[0]).result()

            return self._transcriber.through(predict).notes(sound.blocks(), **thresholds)

        return await self._run(work)


class VocodingService(_Threaded):
    """Mel spectrograms, or sounds by way of them, to sound.

    Attributes:
        dispatch: What gathers windows into batches.
        sample_rate: Of the model, in Hz.
    """

    def __init__(
        self,
        vocoder: Vocoder,
        *,
        jobs: int,
        sizes: Sequence[int],
        observe: Observer | None = None,
    ):
        """Compiles the network for every batch size.

        Args:
            vocoder: A student.
            jobs: Sounds at a time.
            sizes: Batch sizes, rising.
            observe: As `BatchDispatch` takes it.

        Raises:
            ValueError: It is a teacher, which makes a sample at a time.
        """
        if not isinstance(vocoder.task, StudentTask):
            raise ValueError("a teacher is too slow to be served; name a student")
        self._vocoder = vocoder
        self._seconds_a_frame = vocoder.convention.hop_length / vocoder.convention.sample_rate
        self.sample_rate = vocoder.convention.sample_rate
        worker = VocodingWorker(vocoder, sizes=sizes)
        super().__init__(worker, jobs=jobs, observe=observe, name="vocoding")

    async def vocode(
        self, given: Sound | Path, *, max_seconds: float, **settings: int | float
    ) -> np.ndarray:
        """Sound of a sound, or of a mel spectrogram.

        Args:
            given: A sound at the service's rate, or a file that numpy saved.
            max_seconds: Of sound to make.
            **settings: `seed`, `temperature` and `speaker`, as `Vocoder.stream` takes them.

        Returns:
            (n,) float32 in [-1, 1].

        Raises:
            ApiError: It is no sound, or too long.
            ValueError: It is no log-mel of the model's convention, it is too long, or a setting is
                out of range.
            Full: Too much is waiting.
            Closed: The service has been stopped.
        """

        def work(stream):
            def window(one: StudentWindow):
                return self.dispatch.submit(stream, one).result()

            vocoder = Vocoder(self._vocoder.task, self._vocoder.variables, window)
            if isinstance(given, Sound):
                mel = vocoder.mel_blocks(given.blocks())
            else:
                mel = [self._read_mel(given, max_seconds)]
            return np.concatenate([np.zeros(0, np.float32), *vocoder.stream(mel, **settings)])

        return await self._run(work)

    def _read_mel(self, path, max_seconds):
        try:
            # Mapped, as a file may say that it is larger than memory.
            mel = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError, OSError, OverflowError) as error:
            raise ValueError(f"not an array that numpy saved: {error}") from error
        if mel.ndim and len(mel) * self._seconds_a_frame > max_seconds:
            raise ValueError(f"the sound would be longer than {max_seconds:g} s")
        return audio.check_mel(np.asarray(mel), self._vocoder.convention)


async def recognize(service: RecognitionService, sound: Sound, n_best: int) -> Recognition:
    """The words of a whole sound.

    Args:
        service: Of pieces as long as files want them.
        sound: At the service's rate.
        n_best: Transcripts a segment.

    Raises:
        ApiError: It is no sound, or too long.
        Full: All streams are taken.
        Closed: The service has been stopped.
    """
    segments, blocks = [], sound.blocks()
    with closing(service.open(n_best=n_best)) as stream:
        while (block := await asyncio.to_thread(next, blocks, None)) is not None:
            async for heard in stream.hear(block):
                segments += heard.final
        async for heard in stream.finish():
            segments += heard.final
    return Recognition(tuple(segments), service.word_separator)
