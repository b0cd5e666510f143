"""Losses against their formulas in float64."""

import jax.numpy as jnp
import numpy as np

from deepaudio.losses import onset_velocity_loss, weighted_binary_cross_entropy


def _inputs(rng):
    logits = rng.standard_normal((2, 5, 3)).astype(np.float32)
    labels = (rng.random((2, 5, 3)) < 0.3).astype(np.float32)
    paddings = np.array([[0, 0, 0, 0, 0], [0, 0, 1, 1, 1]], np.float32)
    weights = rng.uniform(1, 5, (2, 5, 3)).astype(np.float32)
    return logits, labels, paddings, weights


def test_weighted_cross_entropy_is_its_formula(rng):
    logits, labels, paddings, weights = _inputs(rng)
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    loss = -weights * (labels * np.log(p) + (1 - labels) * np.log(1 - p))
    expected = loss[paddings == 0].mean()
    np.testing.assert_allclose(
        weighted_binary_cross_entropy(logits, labels, jnp.asarray(paddings), weights),
        expected,
        rtol=1e-5,
    )
    unweighted = weighted_binary_cross_entropy(logits, labels, jnp.asarray(paddings))
    np.testing.assert_allclose(unweighted, (loss / weights)[paddings == 0].mean(), rtol=1e-5)


def test_padding_may_hold_anything(rng):
    logits, labels, paddings, weights = _inputs(rng)
    before = weighted_binary_cross_entropy(logits, labels, jnp.asarray(paddings), weights)
    logits[paddings == 1] = np.nan
    after = weighted_binary_cross_entropy(logits, labels, jnp.asarray(paddings), weights)
    np.testing.assert_array_equal(before, after)


def test_all_padding_is_zero(rng):
    logits, labels, _, _ = _inputs(rng)
    assert weighted_binary_cross_entropy(logits, labels, jnp.ones((2, 5))) == 0


def test_velocity_counts_at_onsets_only(rng):
    velocities, onsets, paddings, labels = _inputs(rng)
    labels = labels / 5
    total = sum(
        onsets[b, t, k] * (labels[b, t, k] - velocities[b, t, k]) ** 2
        for b in range(2)
        for t in range(5)
        for k in range(3)
        if not paddings[b, t]
    )
    loss = onset_velocity_loss(velocities, labels, onsets, jnp.asarray(paddings))
    np.testing.assert_allclose(loss, total / (1 - paddings).sum(), rtol=1e-5)
    velocities[onsets == 0] += 7
    np.testing.assert_array_equal(
        onset_velocity_loss(velocities, labels, onsets, jnp.asarray(paddings)), loss
    )
