"""Losses of Onsets and Frames (arXiv 1710.11153, section 3.2)."""

import jax
import jax.numpy as jnp
import optax


def weighted_binary_cross_entropy(
    logits: jax.Array,
    labels: jax.Array,
    paddings: jax.Array,
    weights: jax.Array | None = None,
) -> jax.Array:
    """Mean binary cross-entropy over the frames that are not padding.

    Args:
        logits: (batch, frames, keys) float32.
        labels: (batch, frames, keys) float32 in [0, 1].
        paddings: (batch, frames) float32, 1 where a frame is padding.
        weights: (batch, frames, keys) float32 factors; None for 1.

    Returns:
        () float32: the sum over keys and valid frames, divided by their number; 0 if there is
        none.
    """
    losses = optax.sigmoid_binary_cross_entropy(logits, labels)
    if weights is not None:
        losses = losses * weights
    return _mean_over_frames(losses.mean(axis=-1), paddings)


def onset_velocity_loss(
    velocities: jax.Array, labels: jax.Array, onsets: jax.Array, paddings: jax.Array
) -> jax.Array:
    """Mean over frames of the squared velocity error, summed over the keys that begin a note.

    Args:
        velocities: (batch, frames, keys) float32 predictions.
        labels: (batch, frames, keys) float32, 1 being the loudest.
        onsets: (batch, frames, keys) float32, 1 where a note begins.
        paddings: (batch, frames) float32, 1 where a frame is padding.

    Returns:
        () float32.
    """
    errors = onsets * jnp.square(labels - velocities)
    return _mean_over_frames(errors.sum(axis=-1), paddings)


def _mean_over_frames(values: jax.Array, paddings: jax.Array) -> jax.Array:
    valid = 1.0 - paddings
    # `where`, not a product: what stands in the padding may be NaN.
    total = jnp.where(valid > 0, values, 0.0).sum()
    return total / jnp.maximum(valid.sum(), 1.0)
