"""A vocoder ready to use: mel frames in, sound out, piece by piece without seams."""

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from deepaudio import audio
from deepaudio.models import (
    WaveNet,
    WaveNetConfig,
    WeightsError,
    draw_noise,
    generate,
    initial_state,
    load_weights,
    num_uniforms,
)
from deepaudio.models.weights import check_shapes
from deepaudio.tasks.vocoding import StudentTask, TeacherTask, VocodingConfig

DEFAULT_MODEL = "parallel_wavenet_small"
DEFAULT_TEACHER = "wavenet_small"
# Sound that is made at a time, in seconds.
_PIECE_SECONDS = 4.0


class Vocoder:
    """Makes sound from log-mel frames.

    The frames may come in blocks of any size, as memory is bounded by a piece of a few seconds,
    whose sound does not depend on how the frames came: every piece is made with its neighbours'
    frames, and with the noise of the samples that it can hear.

    Attributes:
        task: Of the network.
        convention: The mel convention that it reads.
        variables: Of the network.
    """

    def __init__(
        self,
        task: TeacherTask | StudentTask,
        variables: dict[str, Any],
        window: Callable[["StudentWindow"], np.ndarray] | None = None,
    ):
        """Compiles nothing yet.

        Args:
            task: A teacher's, for sequential sampling, or a student's.
            variables: Of its network.
            window: Makes the sound of a student's window, (n,) float32, in place of the network
                that is run here, e.g. together with the windows of others.
        """
        self.task = task
        self.convention = task.convention
        self.variables = variables
        hop, rate = self.convention.hop_length, self.convention.sample_rate
        self._frames = max(1, round(_PIECE_SECONDS * rate / hop))
        self._maker = _sequential if isinstance(task, TeacherTask) else _parallel
        if window is not None:
            self._maker = functools.partial(_elsewhere, window)

    def mel(self, samples: np.ndarray) -> np.ndarray:
        """The log-mel spectrogram of a sound, for copy synthesis.

        Beyond its ends the sound counts as silent, as it does in training.

        Args:
            samples: (n,) float at the convention's rate.

        Returns:
            (frames, bands) float32; the last frame is filled up with silence.
        """
        blocks = list(self.mel_blocks([samples]))
        return np.concatenate([np.zeros((0, self.convention.n_mels), np.float32), *blocks])

    def mel_blocks(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """As `mel`, of sound that comes in blocks, with memory for a piece of it.

        Args:
            blocks: (n,) float each, of any length.

        Yields:
            (frames, bands) float32 each; together a frame for every hop that was begun.
        """
        hop, reach = self.convention.hop_length, self.task.reach
        piece, side = self._frames * hop, reach * hop
        held = np.zeros(side, np.float32)
        for block, last in _with_last(blocks):
            held = np.concatenate([held, np.asarray(block, np.float32).reshape(-1)])
            wanted = -(-(len(held) - side) // hop)  # frames that have been begun
            if last:
                held = np.concatenate([held, np.zeros(piece + 2 * side, np.float32)])
            while len(held) >= piece + 2 * side and (not last or wanted > 0):
                mel = audio.convention_mel(held[: piece + 2 * side], self.convention)
                mel = np.asarray(mel)[reach : reach + self._frames]
                yield mel[:wanted] if last else mel
                held = held[piece:]
                wanted -= self._frames

    def vocode(
        self, mel: np.ndarray, *, seed: int = 0, temperature: float = 1.0, speaker: int = 0
    ) -> np.ndarray:
        """Sound from frames.

        Args:
            mel: (frames, bands) log-mel of the convention.
            seed: Of the noise; the same seed gives the same sound.
            temperature: Factor of the noise's scale; 1 is what was learned.
            speaker: Whose voice, by number, if the model has several.

        Returns:
            (frames * hop_length,) float32 in [-1, 1].

        Raises:
            ValueError: The array cannot be a log-mel of the convention, the temperature is
                negative, or there is no such speaker.
        """
        mel = audio.check_mel(np.asarray(mel), self.convention)
        pieces = self.stream([mel], seed=seed, temperature=temperature, speaker=speaker)
        return np.concatenate(list(pieces))

    def stream(
        self,
        blocks: Iterable[np.ndarray],
        *,
        seed: int = 0,
        temperature: float = 1.0,
        speaker: int = 0,
    ) -> Iterator[np.ndarray]:
        """Sound from frames that come in blocks.

        Args:
            blocks: (frames, bands) each, of any number of frames.
            seed: Of the noise.
            temperature: Factor of the noise's scale.
            speaker: Whose voice, by number.

        Yields:
            (n,) float32 pieces; together `hop_length` samples for every frame.

        Raises:
            ValueError: The temperature is negative, or there is no such speaker.
        """
        if not temperature >= 0:
            raise ValueError(f"{temperature=} must be at least 0")
        model = self.task.config.model
        if not 0 <= speaker < max(model.speakers, 1):
            last = max(model.speakers, 1) - 1
            raise ValueError(f"{speaker=} must be one of the model's, 0 to {last}")
        settings = seed, temperature, speaker
        make, window, advance = self._maker(self.task, self.variables, self._frames, settings)
        margin, hop = model.margin, model.hop_length
        silence = float(self.convention.log(self.convention.floor))
        held = np.full((margin, model.mels), silence, np.float32)
        made = 0  # frames of which the sound has been given out
        start = 0  # the first frame of the window that comes next
        begun = False
        for block, last in _with_last(blocks):
            held = np.concatenate([held, np.asarray(block, np.float32)])
            total = start + len(held) - margin  # frames that have come
            if last:
                # Silence follows; what it sounds like is cut off again.
                fill = max(window + 2 * margin, margin) + advance
                held = np.concatenate([held, np.full((fill, model.mels), silence, np.float32)])
            while len(held) >= window + 2 * margin and (not last or made < total):
                samples = make(start, held[: window + 2 * margin])
                fresh = samples if not begun else samples[-advance * hop :]
                begun = True
                if last:
                    fresh = fresh[: max(total - made, 0) * hop]
                made += len(fresh) // hop
                yield fresh
                held = held[advance:]
                start += advance


def _with_last(items):
    """Every item with whether it is the last; an empty array stands for none."""
    previous = np.zeros((0, 0), np.float32)
    begun = False
    for item in items:
        if begun:
            yield previous, False
        previous, begun = item, True
    if begun:
        yield previous, True


class StudentWindow(NamedTuple):
    """A stretch of frames that a student makes sound of, and how.

    Attributes:
        start: Number of its first frame after the margin, from which its noise follows.
        mel: (frames, bands) float32, margins included.
        seed: Of the noise.
        temperature: Factor of the noise's scale.
        speaker: Whose voice, by number.
        phase: Of a source's pulses at the first sample after the margin, cycles.
    """

    start: int
    mel: np.ndarray
    seed: int
    temperature: float
    speaker: int
    phase: float


def student_window_frames(task: StudentTask) -> int:
    """Frames of every window, margins included, that a `Vocoder` of that student makes."""
    convention = task.convention
    frames = max(1, round(_PIECE_SECONDS * convention.sample_rate / convention.hop_length))
    return _past(task) + frames + 2 * task.config.model.margin


def _past(task):
    """Frames whose noise the frames after them can hear; a window begins with so many."""
    return math.ceil(task.config.model.receptive_field / task.config.model.hop_length)


def _elsewhere(window, task, variables, frames, settings):
    """As `_parallel`, by a function that was given."""
    prepare = _preparer(task, variables, frames, settings)
    return lambda start, mel: window(prepare(start, mel)), _past(task) + frames, frames


def _parallel(task, variables, frames, settings):
    """How a student makes windows: the function, and a window's and a step's frames."""
    prepare = _preparer(task, variables, frames, settings)

    def make(start, mel):
        one = jax.tree.map(lambda x: np.asarray(x)[None], prepare(start, mel))
        return np.asarray(student_windows(task, variables, one)[0])

    return make, _past(task) + frames, frames


def _preparer(task, variables, frames, settings):
    """What makes windows that come one after another, each so many frames after the last."""
    phase = np.float32(0.0)

    def prepare(start, mel):
        nonlocal phase
        window = StudentWindow(start, mel, *settings, phase)
        if task.config.model.source:
            phase = np.float32(_phase_after(task, variables, mel, phase, frames))
        return window

    return prepare


@functools.partial(jax.jit, static_argnums=(0, 4))
def _phase_after(task, variables, mel, phase, frames):
    mel, phases = task.normalized(mel)[None], phase[None]
    return task.network.apply(variables, mel, phases, frames, method="phase_after")[0]


@functools.partial(jax.jit, static_argnums=0)
def student_windows(
    task: StudentTask, variables: dict[str, Any], windows: StudentWindow
) -> jax.Array:
    """The sound of some windows of equal length; each is what it would be by itself.

    Args:
        task: Of the student.
        variables: Of its network.
        windows: With a leading axis in every field, (batch, ...).

    Returns:
        (batch, n) float32 in [-1, 1].
    """
    return jax.vmap(functools.partial(_student_window, task, variables))(windows)


def _student_window(task, variables, window):
    start, mel, seed, temperature, speaker, phase = window
    model = task.config.model
    frames = mel.shape[0] - 2 * model.margin
    key = jax.random.key(seed)
    # A frame's noise follows from its number, so that every window that holds it has the same.
    keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(start + jnp.arange(frames))
    noise = jax.vmap(lambda k: draw_noise(k, (model.hop_length,), model.noise))(keys)
    noise = temperature.astype(jnp.float32) * noise.reshape(1, -1)
    speakers = speaker.astype(jnp.int32)[None] if model.speakers else None
    phases = phase.astype(jnp.float32)[None]
    mel = task.normalized(mel)[None]
    samples, *_ = task.network.apply(variables, noise, mel, speakers, phases)
    return jnp.clip(samples[0], -1.0, 1.0)


def _sequential(task, variables, frames, settings):
    """How a teacher makes windows; it remembers what came before, so a window is all fresh."""
    state = initial_state(task.network, 1), jnp.zeros(task.config.model.prediction)
    seed, temperature, speaker = settings
    settings = jax.random.key(seed), temperature, jnp.array([speaker], jnp.int32)

    def make(start, mel):
        nonlocal state
        samples, state = _teacher_window(task, variables, start, mel, state, *settings)
        return np.asarray(samples)

    return make, frames, frames


@functools.partial(jax.jit, static_argnums=0)
def _teacher_window(task, variables, start, mel, state, key, temperature, speaker):
    model: WaveNetConfig = task.config.model
    network: WaveNet = task.network
    conditioning = network.apply(
        variables,
        task.normalized(mel)[None],
        speaker if model.speakers else None,
        method="condition",
    )
    state, past = state
    frames = conditioning.shape[1] // model.hop_length
    keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(start + jnp.arange(frames))
    shape = (model.hop_length, num_uniforms(model.output))
    uniforms = jax.vmap(lambda k: jax.random.uniform(k, shape))(keys)
    samples, state = generate(
        network,
        variables,
        conditioning,
        uniforms.reshape(1, -1, shape[1]),
        state,
        temperature=temperature,
    )
    samples = samples[0]
    if model.prediction:
        coefficients, log_scale = task.predictor(task.normalized(mel)[None])
        scale = jnp.repeat(jnp.exp(log_scale[0]), samples.shape[0] // log_scale.shape[1])
        samples, past = audio.synthesize(samples * scale, coefficients[0], past)
    return jnp.clip(samples, -1.0, 1.0), (state, past)


def load_vocoder(name: str | Path = DEFAULT_MODEL) -> Vocoder:
    """Loads a vocoder's weights.

    Args:
        name: Shipped weights by name, or a file that `experiments.export` wrote.

    Returns:
        The vocoder, a teacher's or a student's by what the file holds.

    Raises:
        WeightsError: There is no such file, or it holds no vocoder.
    """
    variables, stored = load_weights(name)
    try:
        config = VocodingConfig.from_dict(
            {k: stored[k] for k in ("convention", "model", "distillation", "precision")}
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{name}: holds no vocoder: {error}") from error
    is_teacher = isinstance(config.model, WaveNetConfig)
    task = TeacherTask(config) if is_teacher else StudentTask(config)
    check_shapes(variables, jax.eval_shape(task.init, jax.random.key(0)), name)
    return Vocoder(task, variables)
