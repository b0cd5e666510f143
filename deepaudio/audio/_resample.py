"""Mono mix and polyphase resampling in JAX."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

_MOST_COEFFICIENTS = 2**25


def mono(samples: jax.Array) -> jax.Array:
    """Return the mean of the channels.

    Args:
        samples: (..., n, channels) float.

    Returns:
        (..., n) float.
    """
    return jnp.mean(samples, axis=-1)


@functools.partial(jax.jit, static_argnames=("rate_in", "rate_out"))
def resample(samples: jax.Array, rate_in: int, rate_out: int) -> jax.Array:
    """Resample by a polyphase filter; differentiable.

    Equals `librosa.resample(..., res_type="polyphase")`: a Kaiser window (beta 5) over ten periods
    of the lower rate on either side, and ceil(n·rate_out / rate_in) samples out.

    Args:
        samples: (..., n) float.
        rate_in: Hz of the samples given.
        rate_out: Hz of the samples wanted.

    Returns:
        (..., ceil(n·rate_out / rate_in)) float32.

    Raises:
        ValueError: if a rate is not positive, or the two have so small a common divisor that the
            filter bank would not fit (read the sound with `audio.read`, which streams, instead).
    """
    if rate_in < 1 or rate_out < 1:
        raise ValueError(f"{rate_in=} and {rate_out=} must be positive")
    samples = jnp.asarray(samples).astype(jnp.float32)
    divisor = math.gcd(rate_in, rate_out)
    up, down = rate_out // divisor, rate_in // divisor
    if up == down:
        return samples
    bank, before = _filter_bank(up, down)
    length = samples.shape[-1]
    num_out = -(-length * up // down)
    num_steps = -(-num_out // up)
    after = max(0, (num_steps - 1) * down + bank.shape[0] - before - length)
    flat = samples.reshape(-1, 1, length)
    # A step of `down` samples in gives `up` samples out, one for each phase of the filter.
    phases = jax.lax.conv_general_dilated(
        flat,
        jnp.asarray(bank.T[:, None, :]),
        window_strides=(down,),
        padding=((before, after),),
        precision="highest",
    )
    steps = jnp.swapaxes(phases, 1, 2)[:, :num_steps].reshape(flat.shape[0], num_steps * up)
    return steps[:, :num_out].reshape(*samples.shape[:-1], num_out)


@functools.lru_cache(maxsize=8)
def _filter_bank(up: int, down: int) -> tuple[np.ndarray, int]:
    """Return (taps, up) float32 filters of all phases, and the samples they reach back."""
    slower = max(up, down)
    half = 10 * slower
    before = half // up
    taps = before + (half + (up - 1) * down) // up + 1
    if taps * up > _MOST_COEFFICIENTS:
        raise ValueError(f"a resampling ratio of {up}/{down} needs {taps * up} coefficients")
    at = np.arange(-half, half + 1)
    prototype = np.sinc(at / slower) * np.kaiser(2 * half + 1, 5.0)
    prototype *= up / prototype.sum()
    # Phase p takes sample k (relative to its step) by the prototype at p·down - k·up.
    offset = np.arange(up)[None, :] * down - (np.arange(taps)[:, None] - before) * up
    inside = np.abs(offset) <= half
    bank = np.where(inside, prototype[np.clip(offset + half, 0, 2 * half)], 0.0)
    return bank.astype(np.float32), before
