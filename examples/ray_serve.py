"""The speech model behind Ray Serve: batches as deepaudio makes them, replicas as Ray does.

    pip install 'deepaudio[ray]'
    serve run examples.ray_serve:app
    curl --data-binary @note.wav localhost:8000

`deepaudio serve` is one process with one device. Move here when one machine is not enough: Ray
starts replicas on many, sends each request to one of them, and adds more under load. Requests are
whole sounds; live streams need the same replica for every piece, which `deepaudio serve` gives.
"""

import io

import jax
import numpy as np
import soundfile
import soxr
from ray import serve
from starlette.requests import Request

from deepaudio import _recognition_outputs
from deepaudio.tasks.recognizer import Recognition, Segmenter, load_recognizer

_BATCH = 10
_QUANTUM_SECONDS = 5  # sounds are padded to a multiple of it, so that few shapes are compiled


@serve.deployment(max_ongoing_requests=64)
class Recognize:
    """One replica."""

    def __init__(self, weights: str | None = None):
        """Loads the model, once."""
        loaded = load_recognizer(weights)
        self._parts, self._separator = loaded.parts(), loaded.word_separator
        self._rate, self._frame_seconds = loaded.sample_rate, loaded.frame_seconds
        self._log_probs = jax.jit(self._parts.task.log_probs)

    @serve.batch(max_batch_size=_BATCH, batch_wait_timeout_s=0.0)
    async def recognize(self, sounds: list[np.ndarray]) -> list[dict]:
        """(n,) float32 each to text, words and segments each, by one run of the network."""
        quantum = _QUANTUM_SECONDS * self._rate
        longest = -(-max(map(len, sounds)) // quantum) * quantum
        batch = np.zeros((_BATCH, longest), np.float32)
        lengths = np.zeros(_BATCH, np.int32)
        for row, sound in enumerate(sounds):
            batch[row, : len(sound)], lengths[row] = sound, len(sound)
        log_probs, frames = self._log_probs(self._parts.variables, batch, lengths)
        rows = zip(np.asarray(log_probs), np.asarray(frames), strict=True)
        return [self._words(row[:count]) for row, count in list(rows)[: len(sounds)]]

    def _words(self, log_probs: np.ndarray) -> dict:
        segmenter = Segmenter(
            self._parts.search,
            frame_seconds=self._frame_seconds,
            start=-self._parts.delay_seconds,
        )
        segments = [*segmenter.feed(log_probs), *segmenter.finish()]
        return _recognition_outputs.as_row(Recognition(tuple(segments), self._separator))

    async def __call__(self, request: Request) -> dict:
        """A sound file in the body of a request."""
        body = io.BytesIO(await request.body())
        samples, rate = soundfile.read(body, dtype="float32", always_2d=True)
        return await self.recognize(soxr.resample(samples.mean(axis=1), rate, self._rate))


app = Recognize.bind()
