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


def test_momentum_is_nesterovs():
    """v = m v + g, and the step goes along g + m v (Sutskever et al. 2013, as torch writes it)."""
    optimizer = optim.make_optimizer(0.1, max_gradient_norm=1e9, momentum=0.9)
    params = {"kernel": jnp.asarray([[1.0, -2.0]])}
    state = optimizer.init(params)
    expected, velocity = np.asarray(params["kernel"]), 0.0
    for number in range(4):
        gradient = np.asarray([[0.5, number - 1.0]], np.float32)
        updates, state = optimizer.update({"kernel": jnp.asarray(gradient)}, state, params)
        params = optax.apply_updates(params, updates)
        velocity = 0.9 * velocity + gradient
        expected = expected - 0.1 * (gradient + 0.9 * velocity)
        np.testing.assert_allclose(params["kernel"], expected, rtol=1e-5)


@pytest.mark.parametrize("momentum", [-0.1, 1.0])
def test_momentum_out_of_range_is_refused(momentum):
    with pytest.raises(ValueError, match=f"momentum={momentum}"):
        optim.make_optimizer(0.1, max_gradient_norm=1.0, momentum=momentum)
