import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepaudio.losses import ctc_loss


def collapse(path):
    """What a path of outputs spells: repeats become one, blanks go."""
    return [symbol for symbol, _ in itertools.groupby(path) if symbol]


def by_enumeration(logits, label):
    """The definition: minus the log of the summed probability of all paths that spell the label."""
    log_probs = np.asarray(logits, np.float64)
    log_probs = log_probs - np.log(np.exp(log_probs).sum(-1, keepdims=True))
    frames, outputs = log_probs.shape
    total = 0.0
    for path in itertools.product(range(outputs), repeat=frames):
        if collapse(path) == list(label):
            total += np.exp(log_probs[np.arange(frames), path].sum())
    return -np.log(total) if total else np.inf


_compiled = jax.jit(ctc_loss)


def run(logits, num_frames, labels, num_labels):
    logits, labels = jnp.asarray(logits), jnp.asarray(labels, jnp.int32)
    logit_paddings = np.arange(logits.shape[1]) >= np.asarray(num_frames)[:, None]
    label_paddings = np.arange(labels.shape[1]) >= np.asarray(num_labels)[:, None]
    return _compiled(
        logits,
        jnp.asarray(logit_paddings, jnp.float32),
        labels,
        jnp.asarray(label_paddings, jnp.float32),
    )


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_equals_the_sum_over_all_paths(data):
    frames, outputs = 5, 4
    lengths = data.draw(st.lists(st.integers(0, 3), min_size=2, max_size=2))
    labels = data.draw(
        st.lists(
            st.lists(st.integers(1, outputs - 1), min_size=3, max_size=3), min_size=2, max_size=2
        )
    )
    num_frames = data.draw(st.lists(st.integers(1, frames), min_size=2, max_size=2))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    logits = rng.normal(0, 2, (2, frames, outputs)).astype(np.float32)
    losses = run(logits, num_frames, labels, lengths)
    for i in range(2):
        expected = by_enumeration(logits[i, : num_frames[i]], labels[i][: lengths[i]])
        np.testing.assert_allclose(losses[i], expected, rtol=1e-5, atol=1e-5)


@pytest.fixture
def batch(rng):
    logits = rng.normal(0, 1, (3, 30, 12)).astype(np.float32)
    labels = rng.integers(1, 12, (3, 8))
    labels[1, 3] = labels[1, 2]
    return logits, [30, 25, 20], labels, [8, 5, 1]


def of_optax(logits, num_frames, labels, num_labels):
    logit_paddings = (np.arange(logits.shape[1]) >= np.asarray(num_frames)[:, None]) * 1.0
    label_paddings = (np.arange(labels.shape[1]) >= np.asarray(num_labels)[:, None]) * 1.0
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return optax.ctc_loss(logits, logit_paddings, labels, label_paddings)


def test_loss_and_gradient_are_those_of_optax(batch):
    logits, num_frames, labels, num_labels = batch
    np.testing.assert_allclose(run(*batch), of_optax(*batch), rtol=1e-5)
    weights = jnp.asarray([1.0, -2.0, 0.5])
    ours = jax.grad(lambda x: (weights * run(x, num_frames, labels, num_labels)).sum())(
        jnp.asarray(logits)
    )
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        theirs = jax.grad(lambda x: (weights * of_optax(x, num_frames, labels, num_labels)).sum())(
            jnp.asarray(logits)
        )
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_gradient_is_the_slope(batch):
    logits, num_frames, labels, num_labels = batch

    def total(x):
        return run(x, num_frames, labels, num_labels).sum()

    gradient = jax.grad(total)(jnp.asarray(logits))
    rng = np.random.default_rng(0)
    for _ in range(5):
        direction = rng.normal(size=logits.shape).astype(np.float32)
        step = 1e-2
        slope = (total(logits + step * direction) - total(logits - step * direction)) / (2 * step)
        np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=2e-2, atol=2e-2)


def test_padding_has_no_gradient(batch):
    logits, num_frames, labels, num_labels = batch
    gradient = jax.grad(lambda x: run(x, num_frames, labels, num_labels).sum())(jnp.asarray(logits))
    assert (gradient[2, 20:] == 0).all()
    assert (gradient[2, :20] != 0).any()


def test_label_that_does_not_fit_is_infinite_and_silent(rng):
    logits = rng.normal(0, 1, (2, 3, 4)).astype(np.float32)
    # Two equal units need a blank between them: three frames hold "1 1", not "1 1 2".
    labels = [[1, 1, 2], [1, 1, 0]]
    losses = run(logits, [3, 3], labels, [3, 2])
    assert np.isinf(losses[0]) and np.isfinite(losses[1])
    gradient = jax.grad(lambda x: run(x, [3, 3], labels, [3, 2])[0])(jnp.asarray(logits))
    assert (gradient == 0).all()


def test_long_and_certain_sequences_stay_finite():
    labels = np.tile(np.arange(1, 5), 50)[None]
    logits = np.full((1, 400, 5), -40.0, np.float32)
    logits[0, 0::2, 0] = 40.0
    logits[0, np.arange(1, 400, 2), labels[0]] = 40.0
    assert run(logits, [400], labels, [200])[0] < 1e-3
    assert np.isfinite(run(-logits, [400], labels, [200])[0])
    gradient = jax.grad(lambda x: run(x, [400], labels, [200]).sum())(jnp.asarray(-logits))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_logits_are_summed_in_float32(batch, dtype):
    logits, num_frames, labels, num_labels = batch
    half = jnp.asarray(logits, dtype)
    exact = run(half.astype(jnp.float32), num_frames, labels, num_labels)
    np.testing.assert_array_equal(run(half, num_frames, labels, num_labels), exact)
    gradient = jax.grad(lambda x: run(x, num_frames, labels, num_labels).sum())(half)
    assert gradient.dtype == dtype


def test_shapes_are_checked(rng):
    zeros = jnp.zeros
    with pytest.raises(ValueError, match=r"logits.shape=\(2, 5, 3\)"):
        ctc_loss(zeros((2, 5, 3)), zeros((2, 4)), zeros((2, 1), jnp.int32), zeros((2, 1)))
    with pytest.raises(ValueError, match=r"labels.shape=\(3, 1\)"):
        ctc_loss(zeros((2, 5, 3)), zeros((2, 5)), zeros((3, 1), jnp.int32), zeros((3, 1)))
