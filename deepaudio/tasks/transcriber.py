"""Sound of any length to notes, in bounded memory: what the command and the server run."""

import copy
import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import jax
import numpy as np

from deepaudio.data.notes import Notes
from deepaudio.decoding import decode_notes
from deepaudio.models.weights import WeightsError, check_shapes, load_weights
from deepaudio.tasks.transcription import Rolls, TranscriptionConfig, TranscriptionTask

DEFAULT_WEIGHTS = "onsets_and_frames_small"
# 20 s with 2 s of context at either end; four windows a batch keep two cores busy.
_WINDOW_FRAMES = 625
_MARGIN_FRAMES = 62
_BATCH_SIZE = 4


class Transcriber:
    """Runs a model over windows of a recording and joins what it says.

    The windows lie on a fixed grid: window k shows the model frames
    `[k * core - margin, (k + 1) * core + margin)`, silence outside the recording, and only its
    `core = window_frames - 2 * margin_frames` inner frames are kept. So the result does not
    depend on how the sound arrives, and hardly on the length of the window.

    Attributes:
        sample_rate: Of the sound it takes, in Hz.
        hop_length: Samples a frame.
        frame_seconds: Length of a frame in seconds.
        predict: What was given.
        window_samples: Samples of a window.
    """

    def __init__(
        self,
        predict: Callable[[np.ndarray], Rolls],
        *,
        sample_rate: int,
        hop_length: int,
        window_frames: int,
        margin_frames: int,
        batch_size: int,
        has_onsets: bool = True,
        onset_threshold: float = 0.5,
        frame_threshold: float = 0.5,
        offset_weight: float | None = None,
        frame_support: float = 0.0,
    ):
        """Prepares a model for recordings.

        Args:
            predict: From samples (batch, window_frames * hop_length) float32 to rolls
                (batch, window_frames, 88). Called with two batch sizes only: `batch_size`, and 1
                for sound that fits in one window.
            sample_rate: Of the sound, in Hz.
            hop_length: Samples a frame.
            window_frames: Frames the model sees at once.
            margin_frames: Frames of context at either end of a window, not kept.
            batch_size: Windows given to `predict` together.
            has_onsets: False if the model has no onset head; notes then come from frames alone.
            onset_threshold: Used where `notes` is given none.
            frame_threshold: Used where `notes` is given none.
            offset_weight: As `decode_notes` takes it.
            frame_support: As `decode_notes` takes it.

        Raises:
            ValueError: The margins leave nothing of the window.
        """
        if margin_frames < 0 or window_frames <= 2 * margin_frames:
            raise ValueError(f"{window_frames=} must be more than twice {margin_frames=}")
        self.sample_rate = sample_rate
        self.hop_length = hop_length
        self.frame_seconds = hop_length / sample_rate
        self.predict = predict
        self.window_samples = window_frames * hop_length
        self._window_frames = window_frames
        self._margin_frames = margin_frames
        self._batch_size = batch_size
        self._has_onsets = has_onsets
        self._thresholds = onset_threshold, frame_threshold
        self._ends = {"offset_weight": offset_weight, "frame_support": frame_support}

    def rolls(
        self,
        blocks: Iterable[np.ndarray],
        progress: Callable[[float], None] | None = None,
    ) -> Rolls:
        """Probabilities for a whole recording.

        Args:
            blocks: The sound in order, float32 mono (n,) each, at `sample_rate`; any lengths.
            progress: Called with the seconds of sound done, after every batch.

        Returns:
            Rolls of numpy float16 (frames, 88), frames = samples / hop_length rounded up;
            `onsets` is None for a model without them. Half precision keeps an hour in 80 MB.
        """
        core = self._window_frames - 2 * self._margin_frames
        core_seconds = core * self.frame_seconds
        counted, count = _counting(blocks)
        done, pending, kept = 0, [], []
        for window in windows(counted, self._window_frames, self._margin_frames, self.hop_length):
            pending.append(window)
            if len(pending) == self._batch_size:
                kept.append(self._run(pending, self._batch_size))
                done, pending = done + len(pending), []
                if progress:
                    seconds = count() / self.sample_rate
                    progress(min(done * core_seconds, seconds))
        if pending:
            # Only sound of a single window is worth compiling the model for a second shape.
            alone = not kept and len(pending) == 1
            kept.append(self._run(pending, 1 if alone else self._batch_size))
        if progress:
            progress(count() / self.sample_rate)
        num_frames = -(-count() // self.hop_length)
        return Rolls(
            **{
                name: None if parts[0] is None else np.concatenate(parts)[:num_frames]
                for name, parts in zip(Rolls._fields, zip(*kept, strict=True), strict=True)
            }
        )

    def notes(
        self,
        blocks: Iterable[np.ndarray],
        progress: Callable[[float], None] | None = None,
        *,
        onset_threshold: float | None = None,
        frame_threshold: float | None = None,
    ) -> Notes:
        """The notes of a whole recording.

        Args:
            blocks: The sound in order, float32 mono (n,) each, at `sample_rate`; any lengths.
            progress: Called with the seconds of sound done, after every batch.
            onset_threshold: Probability above which a note begins; None for the model's own.
            frame_threshold: Probability above which a key sounds; None for the model's own.

        Returns:
            The notes, none of them after the end of the sound.
        """
        own_onset, own_frame = self._thresholds
        return decode_notes(
            self.rolls(blocks, progress),
            frame_seconds=self.frame_seconds,
            onset_threshold=own_onset if onset_threshold is None else onset_threshold,
            frame_threshold=own_frame if frame_threshold is None else frame_threshold,
            **self._ends,
        )

    def through(self, predict: Callable[[np.ndarray], Rolls]) -> "Transcriber":
        """The same transcriber, whose windows go one at a time through another function.

        Args:
            predict: From samples (1, window_samples) float32 to rolls (1, window_frames, 88).
        """
        other = copy.copy(self)
        other.predict, other._batch_size = predict, 1
        return other

    def _run(self, pending: list[np.ndarray], batch_size: int) -> list[np.ndarray | None]:
        """The kept frames of these windows, (windows * core, 88) a roll."""
        batch = np.pad(np.stack(pending), ((0, batch_size - len(pending)), (0, 0)))
        inner = slice(self._margin_frames, self._window_frames - self._margin_frames)
        rolls = self.predict(batch)
        if not self._has_onsets:
            rolls = rolls._replace(onsets=None)
        return [
            None
            if roll is None
            else np.asarray(roll)[: len(pending), inner].astype(np.float16).reshape(-1, 88)
            for roll in rolls
        ]


def windows(
    blocks: Iterable[np.ndarray], window_frames: int, margin_frames: int, hop_length: int
) -> Iterator[np.ndarray]:
    """Cuts sound into overlapping windows on a fixed grid.

    Args:
        blocks: The sound in order, float32 (n,) each; any lengths.
        window_frames: Frames a window.
        margin_frames: Frames by which window 0 begins before the sound, and by which each
            window overlaps its neighbours' inner frames at either end.
        hop_length: Samples a frame.

    Yields:
        (window_frames * hop_length,) float32, zeros outside the sound; at least one window.
    """
    margin = margin_frames * hop_length
    core = (window_frames - 2 * margin_frames) * hop_length
    window = np.zeros(window_frames * hop_length, np.float32)
    filled, total, emitted = margin, 0, 0

    for block in blocks:
        total += len(block)
        while len(block):
            part = block[: len(window) - filled]
            window[filled : filled + len(part)] = part
            filled, block = filled + len(part), block[len(part) :]
            if filled == len(window):
                yield window.copy()
                emitted += 1
                window[: 2 * margin] = window[core:].copy()
                filled = 2 * margin
    while emitted * core < max(total, 1):
        window[filled:] = 0
        yield window.copy()
        emitted += 1
        kept = max(filled - core, 0)
        window[:kept] = window[core : core + kept].copy()
        filled = kept


def _counting(blocks: Iterable[np.ndarray]):
    """The same blocks, and a function telling how many samples have gone by."""
    total = 0

    def counted():
        nonlocal total
        for block in blocks:
            total += len(block)
            yield block

    return counted(), lambda: total


def make_transcriber(
    config: TranscriptionConfig,
    predict: Callable[[np.ndarray], Rolls],
    **decoding: float | None,
) -> Transcriber:
    """A transcriber with the windows that suit this project's models.

    Args:
        config: Of the model.
        predict: From samples to rolls, as `Transcriber` takes it.
        **decoding: as `decode_notes` takes it.
    """
    return Transcriber(
        predict,
        sample_rate=config.front_end.sample_rate,
        hop_length=config.front_end.hop_length,
        window_frames=_WINDOW_FRAMES,
        margin_frames=_MARGIN_FRAMES,
        batch_size=_BATCH_SIZE,
        has_onsets=config.model.onset_head,
        **decoding,
    )


def load_transcriber(weights: str | Path | None = None) -> Transcriber:
    """A transcriber with weights from a file.

    Args:
        weights: A path, or the name of weights shipped in the package; None for the default.

    Returns:
        The transcriber.

    Raises:
        WeightsError: There are no such weights, or they do not fit their configuration.
    """
    name = weights or DEFAULT_WEIGHTS
    variables, stored = load_weights(name)
    try:
        config = TranscriptionConfig.from_dict(stored)
    except (KeyError, TypeError) as error:
        raise WeightsError(f"{name}: not the weights of a transcription model: {error}") from error
    task = TranscriptionTask(config)
    check_shapes(variables, jax.eval_shape(task.init, jax.random.key(0)), name)
    predict = functools.partial(jax.jit(task.predict), jax.device_put(variables))
    return make_transcriber(config, predict, **stored.get("decoding", {}))
