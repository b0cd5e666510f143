"""Probability density distillation: a student's samples judged by a teacher's distribution."""

import jax
import jax.numpy as jnp

from deepaudio.losses._logistic import MIN_LOG_SCALE, mixture_of_logistics_log_density


def logistic_entropy(log_scale: jax.Array) -> jax.Array:
    """Entropy of a logistic distribution: ln s + 2 (arXiv 1711.10433, equation 8).

    Args:
        log_scale: (…) logarithm of the scale s.

    Returns:
        (…) nats.

    >>> round(float(logistic_entropy(jnp.log(0.5))), 3)
    1.307
    """
    return log_scale + 2.0


def cross_entropy_by_draws(
    mean: jax.Array, log_scale: jax.Array, teacher: jax.Array, key: jax.Array, *, draws: int
) -> jax.Array:
    """Cross-entropy from the student's logistic to the teacher's mixture, at every step.

    H(P_S, P_T) at a step is the expectation of -ln p_T over x drawn from the student's distribution
    given the noise before. Drawing many x for one pass of both networks makes its gradient's
    variance small (section 3.1); each draw is x = mean + s times logistic noise, through which the
    gradient goes.

    Args:
        mean: (…) of the student's distribution.
        log_scale: (…) logarithm of its scale.
        teacher: (…, 3 K) parameters of the teacher's distribution.
        key: For the draws.
        draws: How many.

    Returns:
        (…) nats: an unbiased estimate.

    Raises:
        ValueError: `draws` is less than 1.
    """
    if draws < 1:
        raise ValueError(f"{draws=} must be at least 1")

    def add(total, key):
        x = mean + jnp.exp(log_scale) * jax.random.logistic(key, mean.shape, mean.dtype)
        return total - mixture_of_logistics_log_density(teacher, x), None

    # One draw after another: all at once would take `draws` times the memory.
    add = jax.checkpoint(add)
    total, _ = jax.lax.scan(add, jnp.zeros_like(mean), jax.random.split(key, draws))
    return total / draws


def gaussian_regularized_kl(
    mean: jax.Array, log_scale: jax.Array, teacher: jax.Array, *, weight: float = 4.0
) -> jax.Array:
    """KL from the student's normal distribution to the teacher's, in closed form, regularized.

    KL = ln(s_t / s) + (s^2 + (m - m_t)^2) / (2 s_t^2) - 1/2, plus `weight` times the squared
    difference of the logarithms of both standard deviations, which keeps very small ones from
    deciding alone (ClariNet, arXiv 1807.07281, equation 7).

    Args:
        mean: (…) of the student.
        log_scale: (…) logarithm of its standard deviation.
        teacher: (…, 2): the teacher's mean and logarithm of the standard deviation.
        weight: Of the regularization.

    Returns:
        (…) nats.
    """
    teacher_mean = teacher[..., 0]
    teacher_scale = jnp.maximum(teacher[..., 1], MIN_LOG_SCALE)
    log_scale = jnp.maximum(log_scale, MIN_LOG_SCALE)
    apart = log_scale - teacher_scale
    away = (mean - teacher_mean) * jnp.exp(-teacher_scale)
    divergence = -apart + 0.5 * (jnp.exp(2.0 * apart) + away * away) - 0.5
    return divergence + weight * apart * apart
