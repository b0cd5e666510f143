"""Sound as it arrives to log probabilities: in fixed pieces with state, or in windows."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from deepaudio.tasks.recognition import RecognitionTask

# More frames than any sound has, while its end is not known.
_ENDLESS = np.int32(2**30)
_LONGEST_SECONDS = 20
_WINDOW_QUANTUM_SECONDS = 5
_QUIET_SECONDS = 0.2


class Listener(Protocol):
    """What a recognizer hears through."""

    def feed(self, samples: np.ndarray) -> np.ndarray:
        """Takes (n,) float32 samples; returns the (frames, outputs) log probabilities now known."""
        ...

    def finish(self) -> np.ndarray:
        """Ends the sound; returns the log probabilities that were missing."""
        ...


class StreamState(NamedTuple):
    """What a forward-only network remembers of some sounds.

    Attributes:
        carries: Of every recurrent layer, (1, batch, units).
        tail: (batch, lookahead, units) hidden states whose logits wait for what follows.
    """

    carries: tuple[jax.Array, ...]
    tail: jax.Array


class StreamingNetwork:
    """A forward-only network a piece at a time; its logits are those of the whole sound.

    Piece k gives outputs k * chunk - lookahead to (k + 1) * chunk - lookahead, and needs the
    samples of frames k * chunk * stride - left to (k + 1) * chunk * stride + right.

    Attributes:
        chunk: Output frames a piece.
        lookahead: Output frames by which outputs are behind.
        left: Spectrogram frames of context before a piece.
        window_samples: Samples a piece is computed from.
        step_samples: Samples from one piece to the next.
    """

    def __init__(self, task: RecognitionTask, chunk: int):
        """Prepares a network for streaming.

        Args:
            task: Of a Deep Speech 2 network without a backward direction.
            chunk: Output frames a piece.

        Raises:
            ValueError: The network needs the whole sound.
        """
        if not can_stream(task):
            raise ValueError("only a forward-only Deep Speech 2 network can stream")
        config, front_end = task.config.model, task.config.front_end
        stride, hop = config.time_stride, front_end.hop_length
        before, after = config.context
        # A cut window's own first and last frames lack samples.
        edge = -(-front_end.n_fft // (2 * hop))
        self.chunk = chunk
        self.lookahead = config.lookahead
        self.left = -(-(before + edge) // stride) * stride
        right = -(-(after + edge) // stride) * stride
        self.window_samples = (self.left + chunk * stride + right) * hop
        self.step_samples = chunk * stride * hop
        self._task = task

    def initial_state(self, batch: int = 1) -> StreamState:
        """The state before the first piece of some sounds."""
        config, network = self._task.config.model, self._task.network
        carry = jnp.zeros((1, batch, config.units), network.accumulation_dtype)
        tail = jnp.zeros((batch, self.lookahead, config.units), network.dtype)
        return StreamState((carry,) * config.layers, tail)

    def advance(
        self,
        variables: dict[str, Any],
        state: StreamState,
        samples: jax.Array,
        first: jax.Array,
        total: jax.Array,
    ) -> tuple[jax.Array, StreamState]:
        """One piece of every sound; a pure function, to be compiled.

        Args:
            variables: Of the network.
            state: After the pieces before.
            samples: (batch, window_samples) float32, zeros outside the sound.
            first: (batch,) int32, spectrogram frame that the samples begin with; negative before
                the sound.
            total: (batch,) int32, spectrogram frames of the whole sound, or more than will come.

        Returns:
            (batch, chunk, outputs) float32 log probabilities, and the state after this piece.
        """
        apply = functools.partial(self._task.network.apply, variables)
        spectrogram, _ = self._task.spectrogram(samples, total)
        frames = first[:, None] + jnp.arange(spectrogram.shape[1])[None]
        outside = ((frames < 0) | (frames >= total[:, None])).astype(jnp.float32)
        features, paddings = apply(spectrogram, outside, method="convolve")
        begin = self.left // self._task.config.model.time_stride
        inner = slice(begin, begin + self.chunk)
        hidden, carries = apply(
            features[:, inner], paddings[:, inner], state.carries, method="recur"
        )
        hidden = jnp.concatenate([state.tail, hidden], axis=1)
        logits = apply(hidden, method="read")[:, : self.chunk]
        return jax.nn.log_softmax(logits), StreamState(carries, hidden[:, self.chunk :])


def can_stream(task: RecognitionTask) -> bool:
    """Whether a task's network hears a sound once, from its beginning on."""
    return hasattr(task.network, "recur") and not task.config.model.bidirectional


class Piece(NamedTuple):
    """What `StreamingNetwork.advance` takes of one sound at a time.

    Attributes:
        samples: (window_samples,) float32.
        first: () int32, spectrogram frame that they begin with.
        total: () int32, spectrogram frames of the whole sound, or more than will come.
        kept: Which of the piece's outputs lie in the sound.
    """

    samples: np.ndarray
    first: np.int32
    total: np.int32
    kept: slice


class PieceCutter:
    """Cuts one sound into the pieces of a `StreamingNetwork`."""

    def __init__(self, task: RecognitionTask, network: StreamingNetwork):
        """Begins a sound.

        Args:
            task: Says how many samples a frame has.
            network: Says which samples a piece needs.
        """
        self._hop = task.config.front_end.hop_length
        self._stride = task.config.model.time_stride
        self._network = network
        self._buffer = np.zeros(network.left * self._hop, np.float32)
        self._heard = self._pieces = 0

    def feed(self, samples: np.ndarray) -> Iterator[Piece]:
        """Takes (n,) float32 samples; gives the pieces that are whole by now."""
        self._heard += len(samples)
        self._buffer = np.concatenate([self._buffer, samples.astype(np.float32)])
        while len(self._buffer) >= self._network.window_samples:
            yield self._piece(_ENDLESS)

    def finish(self) -> Iterator[Piece]:
        """Ends the sound; gives the pieces that are left."""
        total = -(-self._heard // self._hop)
        outputs = -(-total // self._stride)
        while self._pieces * self._network.chunk - self._network.lookahead < outputs:
            missing = max(self._network.window_samples - len(self._buffer), 0)
            self._buffer = np.pad(self._buffer, (0, missing))
            yield self._piece(np.int32(total), outputs)

    def _piece(self, total, outputs=None):
        network, number = self._network, self._pieces
        first = np.int32(number * network.chunk * self._stride - network.left)
        window = self._buffer[: network.window_samples]
        self._buffer = self._buffer[network.step_samples :]
        self._pieces += 1
        place = number * network.chunk - network.lookahead
        end = network.chunk if outputs is None else outputs - place
        return Piece(window, first, total, slice(max(-place, 0), max(end, 0)))


class StreamingListener:
    """Feeds one sound to a `StreamingNetwork`."""

    def __init__(
        self,
        task: RecognitionTask,
        network: StreamingNetwork,
        advance: Callable[[StreamState, Any, Any, Any], tuple[jax.Array, StreamState]],
    ):
        """Begins a sound.

        Args:
            task: Says how many samples a frame has.
            network: Says which samples a piece needs.
            advance: Its `advance` with the variables, compiled.
        """
        self._outputs = task.config.model.num_outputs
        self._cutter = PieceCutter(task, network)
        self._advance = advance
        self._state = network.initial_state()

    def feed(self, samples: np.ndarray) -> np.ndarray:
        """As `Listener.feed`."""
        return self._heard(self._cutter.feed(samples))

    def finish(self) -> np.ndarray:
        """As `Listener.finish`."""
        return self._heard(self._cutter.finish())

    def _heard(self, pieces):
        found = [np.zeros((0, self._outputs), np.float32)]
        for samples, first, total, kept in pieces:
            log_probs, self._state = self._advance(
                self._state, samples[None], first[None], total[None]
            )
            found.append(np.asarray(log_probs[0])[kept])
        return np.concatenate(found)


class WindowedListener:
    """Feeds a network that needs whole sounds with windows, cut where it is quiet."""

    def __init__(
        self,
        task: RecognitionTask,
        log_probs: Callable[[np.ndarray, np.ndarray], tuple[jax.Array, jax.Array]],
    ):
        """Begins a sound.

        Args:
            task: Says how many samples a frame has.
            log_probs: Its `log_probs` with the variables, compiled; or a mean of several.
        """
        self._rate = task.config.front_end.sample_rate
        self._frame = task.config.frame_samples
        self._outputs = task.config.model.num_outputs
        self._log_probs = log_probs
        self._buffer = np.zeros(0, np.float32)

    def feed(self, samples: np.ndarray) -> np.ndarray:
        """As `Listener.feed`."""
        self._buffer = np.concatenate([self._buffer, samples.astype(np.float32)])
        found = [np.zeros((0, self._outputs), np.float32)]
        while len(self._buffer) >= _LONGEST_SECONDS * self._rate:
            cut = self._quiet_place()
            found.append(self._window(self._buffer[:cut]))
            self._buffer = self._buffer[cut:]
        return np.concatenate(found)

    def finish(self) -> np.ndarray:
        """As `Listener.finish`."""
        rest, self._buffer = self._buffer, self._buffer[:0]
        if not len(rest):
            return np.zeros((0, self._outputs), np.float32)
        return self._window(rest)

    def _quiet_place(self) -> int:
        """The middle of the quietest stretch in the window's second half, on the frames' grid."""
        half = _LONGEST_SECONDS * self._rate // 2
        energy = np.square(self._buffer[half : 2 * half], dtype=np.float64).cumsum()
        width = int(_QUIET_SECONDS * self._rate)
        quietest = int(np.argmin(energy[width:] - energy[:-width])) + width // 2
        return (half + quietest) // self._frame * self._frame

    def _window(self, samples):
        quantum = _WINDOW_QUANTUM_SECONDS * self._rate
        padded = np.zeros((1, -(-len(samples) // quantum) * quantum), np.float32)
        padded[0, : len(samples)] = samples
        log_probs, frames = self._log_probs(padded, np.array([len(samples)], np.int32))
        return np.asarray(log_probs[0])[: int(frames[0])]


def averaged(
    functions: list[Callable[[np.ndarray, np.ndarray], tuple[jax.Array, jax.Array]]],
    *,
    jitter_samples: int = 0,
) -> Callable[[np.ndarray, np.ndarray], tuple[jax.Array, jax.Array]]:
    """Averages the probabilities of an ensemble, and over sounds a little shifted.

    Deep Speech does both when it is tested (arXiv 1412.5567, sections 2.1 and 5.1): a model that
    takes every second frame hears others in a sound that is moved by half a hop.

    Args:
        functions: From (samples, num_samples) to (log_probs, num_frames), all of one alphabet and
            frame length.
        jitter_samples: The shift to either side; 0 for none.

    Returns:
        A function of the same kind.
    """
    shifts = (0,) if not jitter_samples else (-jitter_samples, 0, jitter_samples)

    def average(samples, num_samples):
        outputs = [
            function(_shifted(samples, shift), num_samples)
            for function in functions
            for shift in shifts
        ]
        stacked = jnp.stack([log_probs for log_probs, _ in outputs])
        return jax.nn.logsumexp(stacked, axis=0) - np.float32(np.log(len(outputs))), outputs[0][1]

    return average


def _shifted(samples, shift):
    """The sound later by so many samples, or earlier; of the same length."""
    if shift == 0:
        return samples
    moved = np.zeros_like(samples)
    if shift > 0:
        moved[:, shift:] = samples[:, :-shift]
    else:
        moved[:, :shift] = samples[:, -shift:]
    return moved
