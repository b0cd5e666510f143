"""Masks applied to averaged parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from deepaudio import optim


def test_apply_masks_makes_an_average_as_sparse():
    only_a = {"a": True, "b": False}
    optimizer = optax.chain(
        optax.trace(0.9),
        optax.masked(
            optim.gradual_pruning(start=0, end=1, sparsity=0.5, schedule="cubic", frequency=1),
            only_a,
        ),
        optim.dense_sparse_dense(
            dense_steps=0, sparse_steps=9, sparsity=0.25, where=lambda path, leaf: path == "b"
        ),
    )
    params = {name: jnp.array([[1.0, 2.0], [3.0, 4.0]]) for name in "ab"}
    state = optimizer.init(params)
    average = {name: jnp.array([[5.0, jnp.nan], [6.0, 7.0]]) for name in "ab"}
    unmasked = optim.apply_masks(average, state)
    np.testing.assert_array_equal(unmasked["a"], average["a"])
    for _ in range(2):
        _, state = optimizer.update(jax.tree.map(jnp.zeros_like, params), state, params)
    masked = jax.jit(optim.apply_masks)(average, state)
    np.testing.assert_array_equal(masked["a"], [[0, 0], [6, 7]])
    np.testing.assert_array_equal(masked["b"], [[0, np.nan], [6, 7]])


def test_apply_masks_without_masks_changes_nothing():
    params = {"kernel": jnp.ones((2, 2))}
    assert optim.apply_masks(params, optax.sgd(0.1).init(params))["kernel"] is params["kernel"]
