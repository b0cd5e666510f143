"""Sampling from what a WaveNet says of the next sample, by uniform numbers drawn before.

Outputs by kind, with the parameters on the last axis:

- "mixture_of_logistics": 3 K: weights' logits, means, logarithms of scales;
- "mu_law": 256 logits, one for each 8-bit mu-law code;
- "gaussian": mean, logarithm of the standard deviation.
"""

from typing import Literal

import jax
import jax.numpy as jnp

Output = Literal["mixture_of_logistics", "mu_law", "gaussian"]
OUTPUTS = ("mixture_of_logistics", "mu_law", "gaussian")
MU_LAW_CODES = 256
_MU = MU_LAW_CODES - 1.0
# Uniform numbers are kept off 0 and 1, where logistic and normal samples would be infinite.
_EDGE = 1e-5


def num_parameters(output: Output, mixtures: int) -> int:
    """How many numbers describe one sample's distribution."""
    return {"mixture_of_logistics": 3 * mixtures, "mu_law": MU_LAW_CODES, "gaussian": 2}[output]


def num_uniforms(output: Output) -> int:
    """How many uniform numbers one sample takes."""
    return 2 if output == "mixture_of_logistics" else 1


def mu_law_encode(samples: jax.Array) -> jax.Array:
    """Samples in [-1, 1] to codes from 0 to 255 (ITU-T G.711's compression, mu = 255).

    Args:
        samples: (…) float; what lies outside is clipped.

    Returns:
        (…) int32.

    >>> mu_law_encode(jnp.array([-1.0, 0.0, 0.5])).tolist()
    [0, 128, 239]
    """
    samples = jnp.clip(samples, -1.0, 1.0)
    compressed = jnp.sign(samples) * jnp.log1p(_MU * jnp.abs(samples)) / jnp.log1p(_MU)
    return jnp.floor((compressed + 1.0) / 2.0 * _MU + 0.5).astype(jnp.int32)


def mu_law_decode(codes: jax.Array, dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """The inverse of `mu_law_encode`, but for rounding: codes to samples in [-1, 1]."""
    compressed = 2.0 * codes.astype(dtype) / _MU - 1.0
    return jnp.sign(compressed) * jnp.expm1(jnp.abs(compressed) * jnp.log1p(_MU)) / _MU


def clip_uniforms(uniforms: jax.Array) -> jax.Array:
    """Keeps uniform numbers off 0 and 1."""
    return jnp.clip(uniforms, _EDGE, 1.0 - _EDGE)


def draw(
    parameters: jax.Array, uniforms: jax.Array, output: Output, temperature: float = 1.0
) -> jax.Array:
    """Draws samples by inverse distribution functions.

    Args:
        parameters: (…, n) as this module describes.
        uniforms: (…, `num_uniforms`) from [0, 1).
        output: Which distribution.
        temperature: Factor of scales, and divisor of logits; 1 for the distribution itself.

    Returns:
        (…) samples in [-1, 1].
    """
    uniforms = clip_uniforms(uniforms)
    if output == "gaussian":
        mean, log_scale = parameters[..., 0], parameters[..., 1]
        normal = jnp.sqrt(jnp.asarray(2.0, mean.dtype)) * jax.scipy.special.erfinv(
            2.0 * uniforms[..., 0] - 1.0
        )
        return jnp.clip(mean + temperature * jnp.exp(log_scale) * normal, -1.0, 1.0)
    if output == "mu_law":
        return mu_law_decode(_choose(parameters / temperature, uniforms[..., 0]), parameters.dtype)
    logits, means, log_scales = jnp.split(parameters, 3, axis=-1)
    chosen = _choose(logits, uniforms[..., 0])[..., None]
    mean = jnp.take_along_axis(means, chosen, axis=-1)[..., 0]
    log_scale = jnp.take_along_axis(log_scales, chosen, axis=-1)[..., 0]
    u = uniforms[..., 1]
    logistic = jnp.log(u) - jnp.log1p(-u)
    return jnp.clip(mean + temperature * jnp.exp(log_scale) * logistic, -1.0, 1.0)


def _choose(logits, uniform):
    """Index by the inverse of a softmax's distribution function."""
    # Not normalized: the sum is compared with the share of the whole that the number asks for.
    weights = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
    reached = jnp.cumsum(weights, axis=-1)
    wanted = uniform[..., None] * reached[..., -1:]
    return jnp.sum(reached[..., :-1] <= wanted, axis=-1, dtype=jnp.int32)
