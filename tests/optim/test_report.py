"""Shares of zeros."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from deepaudio import optim


def test_shares_against_counting(rng):
    kernels = {
        name: np.where(rng.random(shape) < 0.6, 0, rng.standard_normal(shape)).astype(np.float32)
        for name, shape in [("a", (5, 7)), ("b", (2, 3, 4)), ("conv", (3, 3, 2, 2))]
    }
    params = {name: {"kernel": kernel, "bias": np.zeros(3)} for name, kernel in kernels.items()}
    report = optim.sparsity_report(params)
    assert set(report) == {"a/kernel", "b/kernel", "total"}
    zeros = {name: int((kernels[name] == 0).sum()) for name in "ab"}
    assert report["a/kernel"] == zeros["a"] / 35
    assert report["b/kernel"] == zeros["b"] / 24
    assert report["total"] == (zeros["a"] + zeros["b"]) / 59
    assert all(type(share) is float for share in report.values())


def test_small_is_not_zero():
    params = {"kernel": jnp.array([[1e-37, -0.0], [0.0, 1.0]])}
    assert optim.sparsity_report(params) == {"kernel": 0.5, "total": 0.5}


def test_where_selects():
    params = {"a": jnp.zeros((2, 2)), "b": jnp.ones((2, 2))}
    report = optim.sparsity_report(params, where=lambda path, leaf: path == "b")
    assert report == {"b": 0.0, "total": 0.0}
    with pytest.raises(ValueError, match="selects none"):
        optim.sparsity_report(params, where=lambda path, leaf: False)


def test_a_pruned_network_reports_its_sparsity():
    optimizer = optim.gradual_pruning(start=0, end=1, sparsity=0.75, schedule="cubic", frequency=1)
    params = {"kernel": jnp.arange(1.0, 17.0).reshape(4, 4), "bias": jnp.ones(4)}
    state = optimizer.init(params)
    assert optim.sparsity_report(params)["total"] == 0
    for _ in range(2):
        updates, state = optimizer.update(jax.tree.map(jnp.zeros_like, params), state, params)
        params = optax.apply_updates(params, updates)
    assert optim.sparsity_report(params) == {"kernel": 0.75, "total": 0.75}
