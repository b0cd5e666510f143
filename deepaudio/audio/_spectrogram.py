"""Short-time Fourier transform and mel spectrograms, equal to librosa's, in JAX."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class LogMelConfig:
    """A log-mel front end; the defaults are those of Onsets and Frames (arXiv 1710.11153).

    Attributes:
        sample_rate: Hz.
        hop_length: samples between frames.
        n_fft: window length, samples.
        n_mels: number of mel bands.
        f_min: lowest frequency, Hz.
        f_max: highest frequency, Hz.
        htk: HTK's mel scale (the MAESTRO follow-up's) rather than Slaney's.
        amin: the least power that is told from silence.
    """

    sample_rate: int = 16000
    hop_length: int = 512
    n_fft: int = 2048
    n_mels: int = 229
    f_min: float = 30.0
    f_max: float = 8000.0
    htk: bool = False
    amin: float = 1e-10

    @property
    def num_bands(self) -> int:
        """Bands of a frame."""
        return self.n_mels


@dataclasses.dataclass(frozen=True)
class LogSpectrogramConfig:
    """A log-spectrogram front end; the defaults are those of Deep Speech 2 (arXiv 1512.02595).

    Attributes:
        sample_rate: Hz.
        hop_length: samples between frames.
        n_fft: window length, samples.
        amin: the least power that is told from silence.
    """

    sample_rate: int = 16000
    hop_length: int = 160
    n_fft: int = 320
    amin: float = 1e-10

    @property
    def num_bands(self) -> int:
        """Bands of a frame."""
        return 1 + self.n_fft // 2


def stft(
    samples: jax.Array,
    *,
    n_fft: int = 2048,
    hop_length: int = 512,
    win_length: int | None = None,
    centred: bool = True,
) -> jax.Array:
    """Short-time Fourier transform with a periodic Hann window.

    Equals `librosa.stft(..., center=centred, pad_mode="constant")` with time before frequency.

    Args:
        samples: (..., n) float.
        n_fft: frame length, samples, even.
        hop_length: samples between frames.
        win_length: window length, samples, at most n_fft, in the frame's middle; None for n_fft.
        centred: whether frame k's middle is sample k·hop_length, with zeros beyond both ends;
            else it begins there, and no frame reaches over the end.

    Returns:
        (..., frames, 1 + n_fft // 2) complex64; 1 + n // hop_length frames if centred, else
        1 + (n - n_fft) // hop_length.

    Raises:
        TypeError: if the samples are not floating point.
        ValueError: if n_fft is odd, a length is not positive or win_length exceeds n_fft, or there
            are fewer samples than a frame of those that are not centred.
    """
    if not jnp.issubdtype(jnp.asarray(samples).dtype, jnp.floating):
        raise TypeError(f"samples must be floating point, not {jnp.asarray(samples).dtype}")
    if n_fft < 2 or n_fft % 2 or hop_length < 1:
        raise ValueError(f"{n_fft=} must be even and {hop_length=} positive")
    win_length = n_fft if win_length is None else win_length
    if not 0 < win_length <= n_fft:
        raise ValueError(f"{win_length=} must be in 1 to {n_fft=}")
    samples = jnp.asarray(samples).astype(jnp.float32)
    if centred:
        margin = [(0, 0)] * (samples.ndim - 1) + [(n_fft // 2, n_fft // 2)]
        samples = jnp.pad(samples, margin)
    if samples.shape[-1] < n_fft:
        raise ValueError(f"{samples.shape[-1]} samples are fewer than {n_fft=}")
    num_frames = 1 + (samples.shape[-1] - n_fft) // hop_length
    frames = _frame(samples, num_frames, n_fft, hop_length)
    window = jnp.asarray(_hann(win_length, n_fft)).reshape((1,) * (frames.ndim - 1) + (-1,))
    return jnp.fft.rfft(frames * window)


def mel_spectrogram(samples: jax.Array, config: LogMelConfig | None = None) -> jax.Array:
    """Power mel spectrogram, as `librosa.feature.melspectrogram` with Slaney's normalisation.

    Args:
        samples: (..., n) float, at config.sample_rate.
        config: the front end; None is the default one.

    Returns:
        (..., 1 + n // hop_length, n_mels) float32.

    Raises:
        TypeError: if the samples are not floating point.
    """
    config = config or LogMelConfig()
    spectrum = stft(samples, n_fft=config.n_fft, hop_length=config.hop_length)
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    filters = mel_filters(
        config.sample_rate, config.n_fft, config.n_mels, config.f_min, config.f_max, config.htk
    )
    # "highest": a GPU's TF32 would keep ten bits of the sum.
    return jnp.matmul(power, jnp.asarray(filters.T), precision="highest")


@functools.partial(jax.jit, static_argnames="config")
def log_mel(samples: jax.Array, config: LogMelConfig | None = None) -> jax.Array:
    """Log-mel spectrogram in decibels, without a limit below the loudest frame.

    Equals `librosa.power_to_db(melspectrogram(...), ref=1, top_db=None)`. One call serves a whole
    batch, and differentiates.

    Args:
        samples: (..., n) float, at config.sample_rate.
        config: the front end; None is the default one.

    Returns:
        (..., 1 + n // hop_length, n_mels) float32, 10·log10(max(amin, power)).

    Raises:
        TypeError: if the samples are not floating point.
    """
    config = config or LogMelConfig()
    power = mel_spectrogram(samples, config)
    return 10.0 * jnp.log10(jnp.maximum(power, config.amin))


@functools.partial(jax.jit, static_argnames="config")
def log_spectrogram(samples: jax.Array, config: LogSpectrogramConfig | None = None) -> jax.Array:
    """Power spectrogram in decibels, with frequencies evenly spaced.

    Args:
        samples: (..., n) float, at config.sample_rate.
        config: the front end; None is the default one.

    Returns:
        (..., 1 + n // hop_length, 1 + n_fft // 2) float32, 10·log10(max(amin, power)).

    Raises:
        TypeError: if the samples are not floating point.
    """
    config = config or LogSpectrogramConfig()
    spectrum = stft(samples, n_fft=config.n_fft, hop_length=config.hop_length)
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    return 10.0 * jnp.log10(jnp.maximum(power, config.amin))


def _frame(padded: jax.Array, num_frames: int, length: int, hop: int) -> jax.Array:
    """Return (..., num_frames, length) overlapping frames."""
    if length % hop:
        index = np.arange(num_frames)[:, None] * hop + np.arange(length)[None, :]
        return padded[..., index]
    # Where the hop divides the window, frames are shifted stacks of whole blocks: no gather, whose
    # gradient is a slow scatter.
    shifts = length // hop
    num_blocks = num_frames + shifts - 1
    blocks = padded[..., : num_blocks * hop].reshape(*padded.shape[:-1], num_blocks, hop)
    return jnp.concatenate([blocks[..., i : i + num_frames, :] for i in range(shifts)], axis=-1)


@functools.lru_cache(maxsize=16)
def _hann(length: int, frame: int) -> np.ndarray:
    """Return (frame,) a periodic window of a length with zeros on either side."""
    phase = 2.0 * np.pi * np.arange(length) / length
    before = (frame - length) // 2
    window = (0.5 - 0.5 * np.cos(phase)).astype(np.float32)
    return np.pad(window, (before, frame - length - before))


# librosa.filters.mel gives the same matrix, but importing it takes over a second.
@functools.lru_cache(maxsize=16)
def mel_filters(
    sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float, htk: bool
) -> np.ndarray:
    """Triangular filters of equal area, evenly spaced on a mel scale (Slaney 1998; HTK book 5.4).

    Args:
        sample_rate: Hz.
        n_fft: window length, samples.
        n_mels: number of filters.
        f_min: lower edge of the first filter, Hz.
        f_max: upper edge of the last filter, Hz.
        htk: HTK's mel scale rather than Slaney's.

    Returns:
        (n_mels, 1 + n_fft // 2) float32.

    Raises:
        ValueError: if 0 <= f_min < f_max <= sample_rate / 2 does not hold.
    """
    if not 0 <= f_min < f_max <= sample_rate / 2:
        raise ValueError(f"{f_min=}, {f_max=} must rise within 0 to {sample_rate / 2} Hz")
    edges = _mel_edges(n_mels, f_min, f_max, htk)
    bins = np.arange(1 + n_fft // 2) * (sample_rate / n_fft)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (bins - left) / (centre - left)
    falling = (right - bins) / (right - centre)
    filters = np.maximum(0.0, np.minimum(rising, falling)) * 2.0 / (right - left)
    return filters.astype(np.float32)


def mel_frequencies(config: LogMelConfig | None = None) -> np.ndarray:
    """Centre frequencies of a front end's bands.

    Args:
        config: the front end; None is the default one.

    Returns:
        (n_mels,) float64, Hz, ascending.
    """
    config = config or LogMelConfig()
    return _mel_edges(config.n_mels, config.f_min, config.f_max, config.htk)[1:-1]


def _mel_edges(n_mels: int, f_min: float, f_max: float, htk: bool) -> np.ndarray:
    """Return (n_mels + 2,) the filters' edges and centres, Hz: filter i spans i to i + 2."""
    low, high = _hz_to_mel(np.array([f_min, f_max]), htk)
    return _mel_to_hz(np.linspace(low, high, n_mels + 2), htk)


# Slaney's scale: linear up to 1000 Hz (15 mel), then 27 steps for every factor of 6.4.
def _hz_to_mel(hz: np.ndarray, htk: bool) -> np.ndarray:
    if htk:
        return 2595.0 * np.log10(1.0 + hz / 700.0)
    logarithmic = 15.0 + 27.0 * np.log(np.maximum(hz, 1000.0) / 1000.0) / np.log(6.4)
    return np.where(hz < 1000.0, hz * 3.0 / 200.0, logarithmic)


def _mel_to_hz(mel: np.ndarray, htk: bool) -> np.ndarray:
    if htk:
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    exponential = 1000.0 * np.exp((np.maximum(mel, 15.0) - 15.0) * np.log(6.4) / 27.0)
    return np.where(mel < 15.0, mel * 200.0 / 3.0, exponential)
