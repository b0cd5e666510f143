"""The mel spectrograms that vocoders and acoustic models exchange, by the names they go by."""

import dataclasses
import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from deepaudio.audio._spectrogram import mel_filters, stft

# Predicted values stray a little over what a sound can give: 8.7 dB either way.
_SLACK_NEPERS = 1.0
# How near two logarithms of the same floor must be, and how often that must happen.
_FLOOR_TOLERANCE, _FLOOR_COUNT = 1e-4, 2


@dataclasses.dataclass(frozen=True)
class MelConvention:
    """How a log-mel spectrogram is made; always Slaney's mel scale, filters of equal area.

    Attributes:
        name: what it is called.
        sample_rate: Hz.
        n_fft: frame length, samples.
        hop_length: samples between frames.
        win_length: length of the periodic Hann window, samples.
        n_mels: number of bands.
        f_min: lowest frequency, Hz.
        f_max: highest frequency, Hz.
        logarithm: "natural" or "ten".
        floor: the least value whose logarithm is taken.
        power: 1 for bands of magnitudes, 2 for bands of powers.
        padding: "reflect": (n_fft - hop_length) / 2 reflected samples on either side, so that
            frame k's middle is sample (k + 1/2)·hop_length; "centred": n_fft / 2 of them, so that
            it is sample k·hop_length.
        bin_floor: added to every bin's power.
    """

    name: str
    sample_rate: int
    n_fft: int
    hop_length: int
    win_length: int
    n_mels: int
    f_min: float
    f_max: float
    logarithm: Literal["natural", "ten"]
    floor: float
    power: Literal[1, 2]
    padding: Literal["reflect", "centred"]
    bin_floor: float = 0.0

    def log(self, values: np.ndarray | float) -> np.ndarray:
        """Return the convention's logarithm of positive numbers, as float64."""
        values = np.asarray(values, np.float64)
        return np.log(values) if self.logarithm == "natural" else np.log10(values)


_HIFIGAN = MelConvention(
    name="hifigan",
    sample_rate=22050,
    n_fft=1024,
    hop_length=256,
    win_length=1024,
    n_mels=80,
    f_min=0.0,
    f_max=8000.0,
    logarithm="natural",
    floor=1e-5,
    power=1,
    padding="reflect",
    bin_floor=1e-9,
)
_CONVENTIONS = {
    convention.name: convention
    for convention in (
        _HIFIGAN,
        dataclasses.replace(_HIFIGAN, name="hifigan_16k", sample_rate=16000),
        dataclasses.replace(_HIFIGAN, name="tacotron2", padding="centred", bin_floor=0.0),
        MelConvention(
            name="parallel_wavegan",
            sample_rate=24000,
            n_fft=2048,
            hop_length=300,
            win_length=1200,
            n_mels=80,
            f_min=80.0,
            f_max=7600.0,
            logarithm="ten",
            floor=1e-10,
            power=1,
            padding="centred",
        ),
    )
}


def mel_convention(name: str) -> MelConvention:
    """Return a convention by its name.

    - "hifigan": HiFi-GAN's (arXiv 2010.05646), which most acoustic models speak.
    - "hifigan_16k": the same figures at 16 kHz.
    - "tacotron2": NVIDIA's Tacotron 2 and WaveGlow; HiFi-GAN's with centred frames.
    - "parallel_wavegan": the 24 kHz recipes of Parallel WaveGAN's and ESPnet's authors, before
      they normalise by the corpus's mean and variance.

    Args:
        name: one of those.

    Returns:
        The convention.

    Raises:
        ValueError: if there is none of that name.
    """
    if name not in _CONVENTIONS:
        raise ValueError(f"no mel convention {name!r}; there are {', '.join(_CONVENTIONS)}")
    return _CONVENTIONS[name]


@functools.partial(jax.jit, static_argnames="convention")
def convention_mel(samples: jax.Array, convention: MelConvention) -> jax.Array:
    """Log-mel spectrogram by a convention; differentiable.

    Frame k describes samples k·hop_length to (k + 1)·hop_length. What follows the last whole frame
    of samples only stands in the last frames' windows.

    Args:
        samples: (..., n) float at convention.sample_rate, about -1 to 1.
        convention: how.

    Returns:
        (..., n // hop_length, n_mels) float32.

    Raises:
        TypeError: if the samples are not floating point.
        ValueError: if there are fewer than hop_length samples.
    """
    samples = jnp.asarray(samples)
    num_frames = samples.shape[-1] // convention.hop_length
    if not num_frames:
        raise ValueError(f"{samples.shape[-1]} samples are less than a frame of {convention.name}")
    before, after = convention.n_fft // 2, convention.n_fft // 2
    if convention.padding == "reflect":
        both = convention.n_fft - convention.hop_length
        before, after = both // 2, both - both // 2
    margin = [(0, 0)] * (samples.ndim - 1) + [(before, after)]
    spectrum = stft(
        jnp.pad(samples, margin, mode="reflect"),
        n_fft=convention.n_fft,
        hop_length=convention.hop_length,
        win_length=convention.win_length,
        centred=False,
    )[..., :num_frames, :]
    bins = jnp.square(spectrum.real) + jnp.square(spectrum.imag) + convention.bin_floor
    if convention.power == 1:
        # The root's gradient is infinite at 0, where digital silence is.
        heard = bins > 0.0
        bins = jnp.where(heard, jnp.sqrt(jnp.where(heard, bins, 1.0)), 0.0)
    # "highest": a GPU's TF32 would keep ten bits of the sum.
    mel = jnp.matmul(bins, jnp.asarray(_filters(convention).T), precision="highest")
    log = jnp.log if convention.logarithm == "natural" else jnp.log10
    return log(jnp.maximum(mel, convention.floor))


def check_mel(mel: np.ndarray, convention: MelConvention) -> np.ndarray:
    """Check that an array can be a log-mel spectrogram of a sound by a convention.

    Args:
        mel: what should be (frames, n_mels).
        convention: by which it should be.

    Returns:
        (frames, n_mels) float32.

    Raises:
        ValueError: if it has another shape, no frames, is not of real numbers, holds NaN or
            infinite values or values that no sound between -1 and 1 gives (8.7 dB more are
            granted); says in one line what is wrong, and what it looks like.
    """
    mel = np.asarray(mel)
    if mel.dtype.kind not in "fiu":
        raise ValueError(f"a mel holds real numbers, not {mel.dtype}")
    _check_shape(mel, convention)
    bad = np.argwhere(~np.isfinite(mel))
    if len(bad):
        frame, band = bad[0]
        raise ValueError(
            f"the mel holds {len(bad)} values that are NaN or infinite, the first in frame {frame}"
            f", band {band}"
        )
    looks = _looks_wrong(mel.astype(np.float64), convention)
    if looks:
        name = "natural logarithm" if convention.logarithm == "natural" else "logarithm to base 10"
        raise ValueError(
            f"values from {mel.min():.4g} to {mel.max():.4g} (mean {mel.mean():.4g}) are no log-mel"
            f" of convention {convention.name!r} ({name}, floor {convention.floor:g}): {looks}"
        )
    return mel.astype(np.float32)


def _check_shape(mel: np.ndarray, convention: MelConvention) -> None:
    bands, shape = convention.n_mels, mel.shape
    if mel.ndim != 2:
        hint = "; take it out of its batch" if mel.ndim == 3 and shape[0] == 1 else ""
        raise ValueError(f"a mel has two axes, frames and {bands} bands, not shape {shape}{hint}")
    if shape[1] != bands:
        hint = ": it looks transposed, bands before frames" if shape[0] == bands else ""
        raise ValueError(
            f"convention {convention.name!r} has {bands} bands, but a mel of shape {shape} has "
            f"{shape[1]}{hint}"
        )
    if not shape[0]:
        raise ValueError("the mel has no frames")


def _looks_wrong(mel: np.ndarray, convention: MelConvention) -> str | None:
    """Return what finite values look like that cannot be log-mel, or None if they can be."""
    is_natural = convention.logarithm == "natural"
    lowest, highest = (float(convention.log(x)) for x in (convention.floor, _greatest(convention)))
    slack = _SLACK_NEPERS * (1.0 if is_natural else math.log10(math.e))
    low, high = mel.min(), mel.max()
    if low >= 0.0:
        # A magnitude of 1 in every band would be more than noise at full scale.
        return "normalised to 0…1" if 0.0 < high <= 1.0 else "linear, without a logarithm"
    if low < lowest - slack:
        if not is_natural and low >= math.log(convention.floor) - _SLACK_NEPERS:
            return "they look like natural logarithms"
        return f"below the floor's logarithm, {lowest:.4g}, they look like decibels"
    if high > highest + slack:
        return f"above full scale, {highest:.4g}, they look like decibels, or integer samples'"
    if _loudness(mel, convention) > 1.0:
        return "louder on average than full scale, they look normalised"
    # Where sound is silent, the floor's logarithm stands, again and again.
    other = float((np.log10 if is_natural else np.log)(convention.floor))
    at_floor = np.abs(mel - other) < _FLOOR_TOLERANCE
    if high > low > other - _FLOOR_TOLERANCE and at_floor.sum() >= _FLOOR_COUNT:
        return "they look like the other logarithm"
    return None


def _greatest(convention: MelConvention) -> float:
    """Return the greatest value, before the logarithm, that sound from -1 to 1 gives.

    A band of magnitudes is at most the filter's norm times the root of the spectrum's energy
    (Cauchy and Schwarz).
    """
    filters, energy = _filters(convention).astype(np.float64), _frame_energy(convention)
    if convention.power == 1:
        return float(np.linalg.norm(filters, axis=1).max() * math.sqrt(energy))
    return float(filters.max() * energy)


def _loudness(mel: np.ndarray, convention: MelConvention) -> float:
    """Return the least mean energy of a sound of that log-mel, over that of full scale.

    By the same inequality, band by band; every bin is in two filters at most. Speech stays below
    0.03, noise at full scale below 1, and values of mean 0 and deviation 1 above it.
    """
    filters = _filters(convention).astype(np.float64)
    values = np.exp(mel) if convention.logarithm == "natural" else 10.0**mel
    if convention.power == 1:
        least = np.square(values) / np.square(filters).sum(axis=1)[None]
    else:
        least = values / filters.max(axis=1)[None]
    return float(least.sum(axis=1).mean() / 2.0 / _frame_energy(convention))


def _frame_energy(convention: MelConvention) -> float:
    """Return the most energy of a frame's spectrum, by Parseval, without DC and Nyquist."""
    phase = 2.0 * np.pi * np.arange(convention.win_length) / convention.win_length
    return convention.n_fft / 2 * float(np.square(0.5 - 0.5 * np.cos(phase)).sum())


def _filters(convention: MelConvention) -> np.ndarray:
    """Return (n_mels, 1 + n_fft // 2) float32."""
    return mel_filters(
        convention.sample_rate,
        convention.n_fft,
        convention.n_mels,
        convention.f_min,
        convention.f_max,
        False,
    )
