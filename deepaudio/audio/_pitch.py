"""Pitch from samples."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

# A period is good where less than this of the energy is not periodic (YIN, section II.D).
_THRESHOLD = 0.15


@functools.partial(jax.jit, static_argnums=(1, 2))
def yin(
    samples: jax.Array, hop_length: int, periods: tuple[float, float]
) -> tuple[jax.Array, jax.Array]:
    """Periods of a sound by YIN (de Cheveigné and Kawahara 2002, JASA 111, steps 1 to 5).

    Frame k looks at the longest period twice over around sample (k + 1/2) * hop_length; silence
    stands beyond the ends.

    Args:
        samples: (batch, n) float.
        hop_length: Samples a frame.
        periods: The shortest and the longest that are looked for, in samples.

    Returns:
        (batch, n // hop_length) float32 each: the period in samples, and how much of the sound is
        not periodic with it, near 0 for a tone and near 1 for noise; 1 for silence.
    """
    shortest, longest = int(np.floor(periods[0])), int(np.ceil(periods[1]))
    window = longest
    frames = samples.shape[1] // hop_length
    size = window + longest + 1
    reach = size // 2
    padded = jnp.pad(samples.astype(jnp.float32), ((0, 0), (reach, size)))
    starts = hop_length // 2 + hop_length * np.arange(frames)
    framed = padded[:, starts[:, None] + np.arange(size)]
    difference = _difference(framed, window)
    lags = np.arange(1, longest + 1, dtype=np.float32)[None, None]
    total = jnp.cumsum(difference[..., 1:], axis=-1)
    normal = jnp.where(
        total > 0, difference[..., 1:] * lags / jnp.where(total > 0, total, 1.0), 1.0
    )
    # Of lag i + shortest: the value and those of its neighbours.
    before, here, after = (normal[..., shortest - 2 + i : longest - 2 + i] for i in range(3))
    dip = (here <= before) & (here <= after)
    good = dip & (here < _THRESHOLD)
    best = jnp.where(
        good.any(-1), jnp.argmax(good, axis=-1), jnp.argmin(jnp.where(dip, here, 2.0), axis=-1)
    )

    def at(values):
        return jnp.take_along_axis(values, best[..., None], axis=-1)[..., 0]

    left, middle, right = at(before), at(here), at(after)
    curve = left - 2.0 * middle + right
    shift = jnp.where(curve > 1e-9, 0.5 * (left - right) / jnp.maximum(curve, 1e-9), 0.0)
    return (best + shortest).astype(jnp.float32) + jnp.clip(shift, -0.5, 0.5), middle


def _difference(framed, window):
    """d(lag) = sum_j (x_j - x_{j+lag})^2 over a window: (..., size) to (..., size - window)."""
    size = framed.shape[-1]
    length = 2 ** int(np.ceil(np.log2(2 * size)))
    spectrum = jnp.fft.rfft(framed, length)
    first = jnp.fft.rfft(framed[..., :window], length)
    products = jnp.fft.irfft(jnp.conj(first) * spectrum, length)[..., : size - window]
    squares = jnp.pad(
        jnp.cumsum(jnp.square(framed), axis=-1), [(0, 0)] * (framed.ndim - 1) + [(1, 0)]
    )
    energies = squares[..., window:size] - squares[..., : size - window]
    return jnp.maximum(energies[..., :1] + energies - 2.0 * products, 0.0)
