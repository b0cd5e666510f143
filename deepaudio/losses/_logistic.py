"""Likelihoods of samples under what a WaveNet says of them."""

import math

import jax
import jax.numpy as jnp

# Logarithms of scales below this are taken for it. e^-9 is four steps of 16 bits, narrow enough for
# any recording, and keeps gradients finite.
MIN_LOG_SCALE = -9.0


def mixture_of_logistics_nll(
    parameters: jax.Array, samples: jax.Array, *, bits: int = 16
) -> jax.Array:
    """Negative log-likelihood of quantized samples under a mixture of logistics, in nats.

    The mass of a sample's bin: the difference of the distribution functions at its edges; the
    outermost bins reach to infinity (PixelCNN++, arXiv 1701.05517, section 2.1).

    Args:
        parameters: (…, 3 K): weights' logits, means, logarithms of scales.
        samples: (…) in [-1, 1], on a grid of 2^bits values or near it.
        bits: Of the samples.

    Returns:
        (…) nats; divide by log 2 for bits a sample.
    """
    logits, means, log_scales = jnp.split(parameters, 3, axis=-1)
    log_scales = jnp.maximum(log_scales, MIN_LOG_SCALE)
    x = samples[..., None]
    half = 1.0 / (2**bits - 1)
    inverse = jnp.exp(-log_scales)
    upper, lower = inverse * (x - means + half), inverse * (x - means - half)
    # Of a difference of distribution functions too small for float32, the density at the middle.
    mass = jax.nn.sigmoid(upper) - jax.nn.sigmoid(lower)
    middle = inverse * (x - means)
    density = middle - log_scales - 2.0 * jax.nn.softplus(middle) + math.log(2.0 * half)
    inside = jnp.where(mass > 1e-5, jnp.log(jnp.maximum(mass, 1e-12)), density)
    below, above = jax.nn.log_sigmoid(upper), -jax.nn.softplus(lower)
    edge = 1.0 - half
    log_mass = jnp.where(x < -edge, below, jnp.where(x > edge, above, inside))
    return -jax.nn.logsumexp(jax.nn.log_softmax(logits) + log_mass, axis=-1)


def mixture_of_logistics_log_density(parameters: jax.Array, samples: jax.Array) -> jax.Array:
    """Logarithm of a mixture of logistics' density, which distillation differentiates.

    Args:
        parameters: (…, 3 K) as for `mixture_of_logistics_nll`.
        samples: (…), anywhere.

    Returns:
        (…).
    """
    logits, means, log_scales = jnp.split(parameters, 3, axis=-1)
    log_scales = jnp.maximum(log_scales, MIN_LOG_SCALE)
    z = (samples[..., None] - means) * jnp.exp(-log_scales)
    # Symmetric in z, so that neither exponential overflows.
    log_density = -jnp.abs(z) - log_scales - 2.0 * jnp.log1p(jnp.exp(-jnp.abs(z)))
    return jax.nn.logsumexp(jax.nn.log_softmax(logits) + log_density, axis=-1)


def gaussian_nll(parameters: jax.Array, samples: jax.Array) -> jax.Array:
    """Negative logarithm of a normal density.

    Args:
        parameters: (…, 2): mean, logarithm of the standard deviation.
        samples: (…).

    Returns:
        (…) nats, less a constant for the width of a quantization step.
    """
    mean, log_scale = parameters[..., 0], jnp.maximum(parameters[..., 1], MIN_LOG_SCALE)
    z = (samples - mean) * jnp.exp(-log_scale)
    return 0.5 * z * z + log_scale + 0.5 * math.log(2.0 * math.pi)
