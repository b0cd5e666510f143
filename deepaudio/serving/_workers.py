"""What each task computes in a batch: pieces of speech, windows of piano, windows of a voice."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deepaudio.serving.batch_dispatch import Job
from deepaudio.tasks.listening import Piece, StreamingNetwork, StreamState
from deepaudio.tasks.recognizer import Parts
from deepaudio.tasks.transcriber import Transcriber
from deepaudio.tasks.vocoder import (
    StudentWindow,
    Vocoder,
    student_window_frames,
    student_windows,
)


class RecognitionWorker:
    """Pieces of speech to log probabilities; every stream's recurrent state stays on the device.

    The states of all streams are one array each, with a row for every slot. The compiled step
    picks the rows of its batch, advances them and puts them back, in place where the device can.
    Rows that only pad a batch share one more slot.

    Attributes:
        sizes: As in `Worker`.
        stateful: True.
        network: What says how sound is cut into pieces.
    """

    stateful = True

    def __init__(self, parts: Parts, *, seconds: float, sizes: Sequence[int], slots: int):
        """Prepares the network.

        Args:
            parts: Of the recognizer.
            seconds: Length of a piece.
            sizes: Batch sizes to compile, rising.
            slots: Streams at a time.
        """
        self.sizes = tuple(sizes)
        chunk = max(round(seconds / parts.task.config.frame_seconds), 1)
        self.network = StreamingNetwork(parts.task, chunk)
        self._variables = parts.variables
        self._spare = slots
        self._advance = jax.jit(self._step, donate_argnums=1)
        self.reset()

    def reset(self) -> None:
        """As in `Worker`."""
        # The layers' states begin as one array, which cannot be given up twice.
        self._state = jax.tree.map(jnp.copy, self.network.initial_state(self._spare + 1))

    def run(self, jobs: Sequence[Job], size: int) -> Sequence[np.ndarray]:
        """As in `Worker`, of `Piece`s; results are (frames, outputs) float32, those kept."""
        slots = np.full(size, self._spare, np.int32)
        fresh = np.ones(size, bool)
        samples = np.zeros((size, self.network.window_samples), np.float32)
        first, total = np.zeros(size, np.int32), np.zeros(size, np.int32)
        for row, job in enumerate(jobs):
            slots[row], fresh[row] = job.slot, job.fresh
            samples[row], first[row], total[row], _ = job.payload
        log_probs, self._state = self._advance(
            self._variables, self._state, slots, fresh, samples, first, total
        )
        log_probs = np.asarray(log_probs)
        return [_kept(log_probs[row], job.payload) for row, job in enumerate(jobs)]

    def _step(self, variables, state, slots, fresh, samples, first, total):
        def begin(rows, axis):
            shape = [-1 if place == axis else 1 for place in range(rows.ndim)]
            return jnp.where(fresh.reshape(shape), jnp.zeros_like(rows), rows)

        now = StreamState(
            tuple(begin(carry[:, slots], 1) for carry in state.carries),
            begin(state.tail[slots], 0),
        )
        log_probs, after = self.network.advance(variables, now, samples, first, total)
        carries = zip(state.carries, after.carries, strict=True)
        return log_probs, StreamState(
            tuple(old.at[:, slots].set(new) for old, new in carries),
            state.tail.at[slots].set(after.tail),
        )


def _kept(log_probs: np.ndarray, piece: Piece) -> np.ndarray:
    # A copy, or the whole batch would live as long as the last of its results.
    return log_probs[piece.kept].copy()


class TranscriptionWorker:
    """Windows of a recording to rolls.

    Attributes:
        sizes: As in `Worker`.
        stateful: False.
    """

    stateful = False

    def __init__(self, transcriber: Transcriber, *, sizes: Sequence[int]):
        """Prepares the network.

        Args:
            transcriber: Whose `predict` is run.
            sizes: Batch sizes to compile, rising.
        """
        self.sizes = tuple(sizes)
        self._predict = transcriber.predict
        self._window_samples = transcriber.window_samples

    def reset(self) -> None:
        """As in `Worker`; there is no state."""

    def run(self, jobs: Sequence[Job], size: int) -> Sequence[Any]:
        """As in `Worker`, of (window_samples,) float32; results are `Rolls` of a batch of one."""
        samples = np.zeros((size, self._window_samples), np.float32)
        for row, job in enumerate(jobs):
            samples[row] = job.payload
        rolls, rows = jax.tree.map(np.asarray, self._predict(samples)), range(len(jobs))
        return [jax.tree.map(lambda roll, row=row: roll[row][None], rolls) for row in rows]


class VocodingWorker:
    """Windows of mel frames to sound, by a student.

    Attributes:
        sizes: As in `Worker`.
        stateful: False; a window's noise follows from its place.
    """

    stateful = False

    def __init__(self, vocoder: Vocoder, *, sizes: Sequence[int]):
        """Prepares the network.

        Args:
            vocoder: With a student's network.
            sizes: Batch sizes to compile, rising.
        """
        self.sizes = tuple(sizes)
        self._task, self._variables = vocoder.task, jax.device_put(vocoder.variables)
        self._frames = student_window_frames(vocoder.task)

    def reset(self) -> None:
        """As in `Worker`; there is no state."""

    def run(self, jobs: Sequence[Job], size: int) -> Sequence[np.ndarray]:
        """As in `Worker`, of `StudentWindow`s; results are (n,) float32."""
        batch = StudentWindow(
            start=np.zeros(size, np.int32),
            mel=np.zeros((size, self._frames, self._task.config.model.mels), np.float32),
            seed=np.zeros(size, np.int32),
            temperature=np.zeros(size, np.float32),
            speaker=np.zeros(size, np.int32),
            phase=np.zeros(size, np.float32),
        )
        for row, job in enumerate(jobs):
            for column, value in zip(batch, job.payload, strict=True):
                column[row] = value
        samples = np.asarray(student_windows(self._task, self._variables, batch))
        return [samples[row].copy() for row in range(len(jobs))]
