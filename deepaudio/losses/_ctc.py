"""Connectionist temporal classification."""

import functools

import jax
import jax.numpy as jnp

# Stands for log 0 in sums, where minus infinity would make NaN.
_IMPOSSIBLE = -1e30


def ctc_loss(
    logits: jax.Array, logit_paddings: jax.Array, labels: jax.Array, label_paddings: jax.Array
) -> jax.Array:
    """Negative log-likelihood of label sequences (Graves et al. 2006, equations 5 to 16).

    The same number as `optax.ctc_loss` with blank 0, for a label that fits. Labels are looked up,
    not multiplied with one-hot vectors, so that the cost hardly grows with the number of outputs;
    the forward and the backward variables run in one scan, and the gradient is the softmax less the
    posteriors of the labels (equation 16).

    Args:
        logits: (batch, frames, outputs) float; output 0 is the blank. Summed in float32.
        logit_paddings: (batch, frames), 1 where a frame is padding, at the end.
        labels: (batch, length) int32, from 1.
        label_paddings: (batch, length), 1 where a label is padding, at the end.

    Returns:
        (batch,) float32, nats; infinite, with a gradient of zero, for a label with more units than
        the frames can hold: a repeated unit needs a blank before it.

    Raises:
        ValueError: Shapes do not fit each other.
    """
    if logits.ndim != 3 or logits.shape[:2] != logit_paddings.shape:
        raise ValueError(f"{logits.shape=} does not fit {logit_paddings.shape=}")
    if labels.shape != label_paddings.shape or len(labels) != len(logits):
        raise ValueError(f"{labels.shape=} does not fit {label_paddings.shape=}, {logits.shape=}")
    return _ctc_loss(logits, logit_paddings, labels, label_paddings)


@jax.custom_vjp
def _ctc_loss(logits, logit_paddings, labels, label_paddings):
    return _forward(logits, logit_paddings, labels, label_paddings)[0]


def _forward(logits, logit_paddings, labels, label_paddings):
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    emitted = _emissions(log_probs, labels)
    skips = _may_skip(labels, label_paddings)
    lengths = (1.0 - label_paddings).sum(axis=1).astype(jnp.int32)
    forward, backward = _variables(emitted, logit_paddings > 0, skips, lengths)
    log_likelihood = _total(forward, lengths)
    possible = log_likelihood > 0.1 * _IMPOSSIBLE
    loss = jnp.where(possible, -log_likelihood, jnp.inf)
    # Of every state at every frame; in padding and for impossible labels there is none.
    posteriors = jnp.exp(forward + backward - emitted - log_likelihood[:, None, None])
    seen = (logit_paddings == 0) & possible[:, None]
    posteriors = jnp.where(seen[..., None], posteriors, 0.0)
    # Residuals of a custom gradient are arrays; this one carries the logits' dtype.
    dtype = jnp.zeros((), logits.dtype)
    return loss, (log_probs, posteriors, seen, labels, dtype)


def _backward(residuals, cotangent):
    log_probs, posteriors, seen, labels, dtype = residuals
    outputs = log_probs.shape[-1]
    blank = posteriors[..., 0::2].sum(axis=-1)
    add = jax.vmap(lambda total, label, value: total.at[:, label].add(value))
    zeros = jnp.zeros((*log_probs.shape[:2], outputs), jnp.float32)
    of_labels = add(zeros, labels, posteriors[..., 1::2]).at[..., 0].add(blank)
    gradient = jnp.where(seen[..., None], jnp.exp(log_probs) - of_labels, 0.0)
    return (gradient * cotangent[:, None, None]).astype(dtype.dtype), None, None, None


_ctc_loss.defvjp(_forward, _backward)


def _emissions(log_probs, labels):
    """(batch, frames, 2 * length + 1): log probabilities of blank, label, blank, label, …."""
    of_labels = jnp.take_along_axis(log_probs, labels[:, None, :], axis=-1)
    blank = jnp.broadcast_to(log_probs[..., :1], of_labels.shape)
    pairs = jnp.stack([blank, of_labels], axis=-1).reshape(*of_labels.shape[:2], -1)
    return jnp.concatenate([pairs, log_probs[..., :1]], axis=-1)


def _may_skip(labels, label_paddings):
    """(batch, 2 * length + 1): whether a state may follow the one two before it."""
    changed = jnp.concatenate([labels[:, :1] < 0, labels[:, 1:] != labels[:, :-1]], axis=1)
    pairs = jnp.stack([jnp.zeros_like(changed), changed & (label_paddings == 0)], axis=-1)
    flat = pairs.reshape(len(labels), -1)
    return jnp.concatenate([flat, jnp.zeros_like(flat[:, :1])], axis=1)


def _variables(emitted, padded, skips, lengths):
    """Forward and backward variables, (batch, frames, states) each, both with the emission.

    Backward variables are forward ones of what is read from its end: time and states reversed.
    """
    states = emitted.shape[-1]
    numbers = jnp.arange(states)
    # Before its first frame a path stands in the first state, or after its last in the last one.
    start = jnp.where((numbers == 0)[None] & (lengths >= 0)[:, None], 0.0, _IMPOSSIBLE)
    end = jnp.where(numbers[None] == 2 * lengths[:, None], 0.0, _IMPOSSIBLE)
    # Whether the state two after may follow, reversed: whether the one two before may.
    skips_back = jnp.pad(skips, ((0, 0), (0, 2)))[:, 2:][:, ::-1]
    step = functools.partial(_advance, jnp.stack([skips, skips_back]))
    by_time = emitted.swapaxes(0, 1), padded.swapaxes(0, 1)[..., None]
    both = [jnp.stack([x, x[::-1]], axis=1) for x in by_time]
    both[0] = both[0].at[:, 1].set(both[0][:, 1, :, ::-1])
    _, variables = jax.lax.scan(step, jnp.stack([start, end[:, ::-1]]), tuple(both))
    forward, backward = variables[:, 0], variables[::-1, 1, :, ::-1]
    return forward.swapaxes(0, 1), backward.swapaxes(0, 1)


def _advance(skips, before, inputs):
    """One frame of the recursion, of both directions at once; padding changes nothing."""
    emission, padded = inputs
    one = jnp.pad(before[..., :-1], ((0, 0), (0, 0), (1, 0)), constant_values=_IMPOSSIBLE)
    two = jnp.pad(before[..., :-2], ((0, 0), (0, 0), (2, 0)), constant_values=_IMPOSSIBLE)
    two = jnp.where(skips, two, _IMPOSSIBLE)
    largest = jnp.maximum(jnp.maximum(before, one), two)
    total = jnp.exp(before - largest) + jnp.exp(one - largest) + jnp.exp(two - largest)
    after = jnp.maximum(emission + largest + jnp.log(total), _IMPOSSIBLE)
    after = jnp.where(padded, before, after)
    return after, after


def _total(forward, lengths):
    """(batch,) log-likelihood: a path ends in the last label or in the blank after it."""
    last = forward[:, -1]
    blank = jnp.take_along_axis(last, 2 * lengths[:, None], axis=1)[:, 0]
    label = jnp.take_along_axis(last, jnp.maximum(2 * lengths - 1, 0)[:, None], axis=1)[:, 0]
    return jnp.where(lengths > 0, jnp.logaddexp(blank, label), blank)
