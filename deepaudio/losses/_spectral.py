"""Losses that compare what two sounds have in common beyond their waveforms."""

import jax
import jax.numpy as jnp
import numpy as np


def _stft_magnitude(samples, size):
    """(batch, n) to (batch, frames, size // 2 + 1), hops of a quarter, a Hann window of norm 1."""
    hop = size // 4
    frames = (samples.shape[-1] - size) // hop + 1
    if frames < 1:
        raise ValueError(f"{samples.shape[-1]} samples are fewer than the transform's {size}")
    # Hops divide the window, so frames are rows of a reshaped array side by side.
    blocks = samples[:, : (frames + 3) * hop].reshape(samples.shape[0], frames + 3, hop)
    framed = jnp.concatenate([blocks[:, i : i + frames] for i in range(4)], axis=-1)
    # Scaled so that white noise has magnitudes of about its standard deviation in any size.
    window = np.hanning(size + 1)[:-1]
    window = (window / np.sqrt(np.square(window).sum())).astype(samples.dtype)
    spectrum = jnp.fft.rfft(framed * window[None, None])
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    # The root's derivative at 0 would be infinite.
    return jnp.sqrt(power + 1e-9)


def power_loss(
    samples: jax.Array,
    targets: jax.Array,
    *,
    sizes: tuple[int, ...] = (512, 1024, 2048),
    magnitude: bool = True,
) -> jax.Array:
    """How far a sound's average spectrum is from another's (arXiv 1711.10433, section 4.1).

    The squared difference of the spectra averaged over time, summed over transforms of several
    sizes and meaned over bands: right loudness in every band, of which the KL alone does not take
    care. The paper averages the squared magnitude; the magnitude itself weighs faint bands more.

    Args:
        samples: (batch, n).
        targets: (batch, n).
        sizes: Samples of each transform, multiples of 4 that n is not less than.
        magnitude: Averages magnitudes; False for their squares.

    Returns:
        Scalar.

    Raises:
        ValueError: There are fewer samples than a transform has.
    """
    total = jnp.zeros((), samples.dtype)
    for size in sizes:
        ours, theirs = (_stft_magnitude(x, size) for x in (samples, targets))
        if not magnitude:
            ours, theirs = jnp.square(ours), jnp.square(theirs)
        total = total + jnp.mean(jnp.square(ours.mean(1) - theirs.mean(1)))
    return total


def spectral_loss(
    samples: jax.Array, targets: jax.Array, *, sizes: tuple[int, ...] = (256, 512, 1024, 2048)
) -> jax.Array:
    """How far a sound's spectra are from another's, frame by frame (arXiv 1910.11480, section 2.2).

    Spectral convergence, the norm of the magnitudes' difference over the norm of the target's
    magnitudes, plus the mean absolute difference of their logarithms; meaned over transforms of
    several sizes. It says of every moment what the power loss says of the average, and so teaches
    faster; it wants the very recording, not only its kind.

    Args:
        samples: (batch, n).
        targets: (batch, n).
        sizes: Samples of each transform, multiples of 4 that n is not less than.

    Returns:
        Scalar.

    Raises:
        ValueError: There are fewer samples than a transform has.
    """
    total = jnp.zeros((), samples.dtype)
    for size in sizes:
        ours, theirs = (_stft_magnitude(x, size) for x in (samples, targets))
        convergence = jnp.sqrt(jnp.sum(jnp.square(ours - theirs)) / jnp.sum(jnp.square(theirs)))
        total = total + convergence + jnp.mean(jnp.abs(jnp.log(ours) - jnp.log(theirs)))
    return total / len(sizes)


def style_loss(features: jax.Array, targets: jax.Array) -> jax.Array:
    """How far the correlations of a sound's features are from another's (section 4.2).

    The mean squared difference of Gram matrices, G = F^T F / frames.

    Args:
        features: (batch, frames, n), activations of a network that knows speech.
        targets: (batch, frames, n) of the recording.

    Returns:
        Scalar.
    """

    def gram(x):
        return jnp.einsum("btf,btg->bfg", x, x) / x.shape[1]

    return jnp.mean(jnp.square(gram(features) - gram(targets)))
