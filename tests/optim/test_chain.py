"""The chain's order, seen from what comes out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from deepaudio import optim


@pytest.fixture(autouse=True)
def loose_promotion():
    """optax's Adam raises a float to an integer power, which strict promotion forbids."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def test_clipping_comes_before_adam_and_after_unscaling():
    # Adam with a large epsilon is nearly linear, so the size of what it hears can be seen.
    params = {"w": jnp.zeros((2, 2))}
    grads = {"w": jnp.full((2, 2), 50.0)}

    def moment(**options):
        chain = optim.make_optimizer(1.0, max_gradient_norm=1e-3, **options)
        scale = 2.0**15 if options else 1.0
        scaled = jax.tree.map(lambda g: g * scale, grads)
        _, state = chain.update(scaled, chain.init(params), params)
        return optax.tree.get(state, "mu")["w"]

    # The mean of gradients clipped to norm 1e-3, 5e-4 each, times 1 - b1.
    np.testing.assert_allclose(moment(), np.full((2, 2), 0.1 * 5e-4), rtol=1e-5)
    np.testing.assert_allclose(moment(loss_scaling={}), moment(), rtol=1e-5)


def test_weight_decay_spares_vectors():
    chain = optim.make_optimizer(1.0, max_gradient_norm=1.0, weight_decay=0.1)
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones((2,))}
    updates, _ = chain.update(jax.tree.map(jnp.zeros_like, params), chain.init(params), params)
    np.testing.assert_allclose(updates["kernel"], np.full((2, 2), -0.1), rtol=1e-6)
    np.testing.assert_array_equal(updates["bias"], np.zeros(2))
