"""Linear prediction by filters that follow from a mel spectrogram, and its inverse."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from deepaudio.audio._mel import MelConvention
from deepaudio.audio._spectrogram import mel_filters

# Filters a frame; what is between frames has filters of mel values between theirs.
PARTS = 4
# Added to the power spectrum, as a share of the mean: -50 dB, as a floor that float32 can resolve.
_FLOOR_SHARE = 1e-5
# Under all that a 16-bit recording can hold: a tenth of a step.
_FLOOR_POWER = (0.1 / 2**15) ** 2


def predictor(
    nepers: jax.Array, convention: MelConvention, order: int
) -> tuple[jax.Array, jax.Array]:
    """Coefficients that predict a sample from those before it, of every quarter of a frame.

    Bands become a power spectrum, that an autocorrelation, and that coefficients, by Levinson and
    Durbin's recursion (Makhoul, Linear Prediction, Proc. IEEE 63, 1975): the synthesis filter of
    every quarter is stable.

    Args:
        nepers: (..., 1 + frames + 1, mels) natural logarithms of the convention's bands of
            magnitudes, a frame more at either side.
        convention: the mel convention.
        order: samples that are looked back.

    Returns:
        (..., frames * PARTS, order) coefficients, the nearest sample's first, and
        (..., frames * PARTS) the logarithm of the standard deviation of what is left, float32.
    """
    magnitude = _between(nepers) @ jnp.asarray(_to_bins(convention))
    window = np.hanning(convention.win_length + 1)[:-1]
    gain = math.log(float(np.square(window).sum()))
    levels = jnp.asarray(_levels(convention))
    power = jnp.exp(2.0 * (magnitude + jnp.expand_dims(levels, range(magnitude.ndim - 1))) - gain)
    mean = jnp.mean(power, axis=-1, keepdims=True)
    correlation = jnp.fft.irfft(power + _FLOOR_SHARE * mean + _FLOOR_POWER)[..., : order + 1]
    coefficients, error = levinson(correlation)
    return coefficients, 0.5 * jnp.log(error)


def levinson(correlation: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Solves the normal equations of linear prediction.

    Args:
        correlation: (..., order + 1) autocorrelation at lags from 0.

    Returns:
        (..., order) coefficients a, x_t being about sum_k a_k x_{t-k}, and (...) the mean square of
        what is left.
    """
    error = correlation[..., 0]
    found = correlation[..., :0]
    for k in range(correlation.shape[-1] - 1):
        told = jnp.sum(found * correlation[..., k:0:-1], axis=-1)
        reflection = ((correlation[..., k + 1] - told) / error)[..., None]
        found = jnp.concatenate([found - reflection * found[..., ::-1], reflection], axis=-1)
        error = error * (1.0 - jnp.square(reflection[..., 0]))
    return found, error


def predict(samples: jax.Array, coefficients: jax.Array) -> jax.Array:
    """What linear prediction says of every sample; silence is before the first.

    Args:
        samples: (..., n).
        coefficients: (..., parts, order), parts that divide n.

    Returns:
        (..., n).
    """
    *batch, length = samples.shape
    parts, order = coefficients.shape[-2:]
    padded = jnp.pad(samples, [(0, 0)] * len(batch) + [(order, 0)])
    total = jnp.zeros((*batch, parts, length // parts))
    for k in range(1, order + 1):
        past = padded[..., order - k : order - k + length].reshape(total.shape)
        total = total + coefficients[..., k - 1, None] * past
    return total.reshape(samples.shape)


def synthesize(
    errors: jax.Array, coefficients: jax.Array, past: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The sound whose linear prediction leaves given errors: the inverse of taking them.

    Args:
        errors: (n,).
        coefficients: (parts, order), parts that divide n.
        past: (order,) samples before the first, the latest first.

    Returns:
        (n,) samples, and the past of what comes next.
    """
    parts = coefficients.shape[0]

    def of_part(past, inputs):
        coefficients, errors = inputs

        def step(past, error):
            sample = error + jnp.sum(coefficients * past)
            return jnp.concatenate([sample[None], past[:-1]]), sample

        return jax.lax.scan(step, past, errors)

    past, samples = jax.lax.scan(of_part, past, (coefficients, errors.reshape(parts, -1)))
    return samples.reshape(-1), past


def _between(nepers):
    """(..., 1 + frames + 1, bands) to (..., frames * PARTS, bands), in the middles of the parts."""
    before, now, after = nepers[..., :-2, :], nepers[..., 1:-1, :], nepers[..., 2:, :]
    rows = []
    for part in range(PARTS):
        away = (part + 0.5) / PARTS - 0.5  # of the frame's middle, in frames
        other = after if away > 0 else before
        rows.append(now + abs(away) * (other - now))
    stacked = jnp.stack(rows, axis=-2)
    return stacked.reshape(*stacked.shape[:-3], -1, stacked.shape[-1])


@functools.cache
def _to_bins(convention: MelConvention) -> np.ndarray:
    """(mels, bins) that fade from band to band; beyond the outer bands' middles these stay."""
    filters = _filters(convention)
    bins = np.arange(filters.shape[1], dtype=np.float64)
    middles = filters @ bins / filters.sum(axis=1)
    each = [np.interp(bins, middles, row) for row in np.eye(len(middles))]
    return np.stack(each).astype(np.float32)


@functools.cache
def _levels(convention: MelConvention) -> np.ndarray:
    """(bins,) to add to a band's logarithm: a band is a sum, with weights of equal area."""
    return -np.log(_filters(convention).sum(axis=1)).astype(np.float32) @ _to_bins(convention)


def _filters(convention: MelConvention) -> np.ndarray:
    c = convention
    return mel_filters(c.sample_rate, c.n_fft, c.n_mels, c.f_min, c.f_max, htk=False)
