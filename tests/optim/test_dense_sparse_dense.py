"""Phases, ranks and masks of dense-sparse-dense training, against loops written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from deepaudio import optim
from tests.optim import _by_hand


def by_hand(name, num_steps, *, dense, sparse, redense, share, scale, repeats):
    """DSD in numpy; yields the weights after each step and the phase it was in."""
    weights, updates = _by_hand.start(), _by_hand.Updates(name)
    phases = ["dense"] * dense + (["sparse"] * sparse + ["redense"] * redense) * repeats
    phases += ["redense"] * (num_steps - len(phases))
    dropped, before = {}, "dense"
    for t, phase in enumerate(phases[:num_steps]):
        if phase == "sparse" and before != "sparse":
            for path, w in weights.items():
                count = 0 if w.ndim == 1 else round(share * w.size)
                dropped[path] = _by_hand.smallest(w, count)
        for path, u in updates(_by_hand.gradients(weights, t), weights).items():
            weights[path] = weights[path] + (u * scale if phase == "redense" else u)
            if phase == "sparse":
                weights[path] = np.where(dropped[path], 0.0, weights[path])
        before = phase
        yield {path: w.copy() for path, w in weights.items()}, phase


@pytest.mark.parametrize("name", list(_by_hand.OPTIMIZERS))
def test_all_phases_against_a_loop_by_hand(name):
    transform = optim.dense_sparse_dense(
        dense_steps=6, sparse_steps=8, redense_steps=5, sparsity=0.4, redense_scale=0.2, repeats=2
    )
    hand = by_hand(name, 40, dense=6, sparse=8, redense=5, share=0.4, scale=0.2, repeats=2)
    for weights, (expected, phase) in zip(_by_hand.train(transform, name, 40), hand, strict=True):
        for path, w in weights.items():
            np.testing.assert_allclose(w, expected[path], rtol=2e-3, atol=2e-4)
            # Outside sparse phases a weight stays at zero while its gradient is zero.
            np.testing.assert_array_equal(w == 0, expected[path] == 0)
            if phase == "sparse" and w.ndim > 1:
                assert _by_hand.is_positive_zero(w).sum() == round(0.4 * w.size)


def test_no_dense_phase_prunes_the_given_weights():
    optimizer = optim.dense_sparse_dense(dense_steps=0, sparse_steps=1, sparsity=0.5)
    params = {"kernel": jnp.array([[1.0, -3.0], [2.0, -4.0]])}
    updates, state = optimizer.update(
        {"kernel": jnp.full((2, 2), 5.0)}, optimizer.init(params), params
    )
    params = optax.apply_updates(params, updates)
    np.testing.assert_array_equal(params["kernel"], [[0, 2], [0, 1]])
    # One sparse step only: now they start from zero at a tenth.
    updates, _ = optimizer.update({"kernel": jnp.full((2, 2), 5.0)}, state, params)
    np.testing.assert_array_equal(updates["kernel"], np.full((2, 2), np.float32(0.5)))


def test_later_dense_phases_slow_every_leaf():
    optimizer = optim.dense_sparse_dense(dense_steps=0, sparse_steps=1, redense_scale=0.25)
    params = {"kernel": jnp.ones((3, 3)), "bias": jnp.ones(3)}
    grads = jax.tree.map(jnp.ones_like, params)
    updates, state = optimizer.update(grads, optimizer.init(params), params)
    np.testing.assert_array_equal(updates["bias"], np.ones(3))
    for _ in range(3):
        updates, state = optimizer.update(grads, state, params)
        np.testing.assert_array_equal(updates["bias"], np.full(3, 0.25))


def test_without_repeats_the_network_stays_dense():
    optimizer = optim.dense_sparse_dense(dense_steps=1, sparse_steps=2, redense_steps=2)
    params = {"kernel": jnp.arange(1.0, 10.0).reshape(3, 3)}
    state, shares, step = optimizer.init(params), [], jax.jit(optimizer.update)
    for _ in range(12):
        _, state = step(params, state, params)
        shares.append(int((~state.mask["kernel"]).sum()))
    assert shares == [0, 3, 3] + [0] * 9


def test_each_repeat_takes_a_new_mask():
    optimizer = optim.dense_sparse_dense(
        dense_steps=0, sparse_steps=1, redense_steps=1, repeats=2, sparsity=0.25
    )
    params = {"kernel": jnp.array([[1.0, 2.0], [3.0, 4.0]])}
    state, masks = optimizer.init(params), []
    for scale in ([[1, 1], [1, 1]], [[9, 1], [1, 1]], [[9, 1], [1, 1]]):
        now = {"kernel": params["kernel"] * jnp.asarray(scale, jnp.float32)}
        _, state = optimizer.update(params, state, now)
        masks.append(np.asarray(state.mask["kernel"]).tolist())
    assert masks == [
        [[False, True], [True, True]],
        [[True, True], [True, True]],
        [[True, False], [True, True]],
    ]


def test_structures():
    rng = np.random.default_rng(3)
    kernel = rng.standard_normal((8, 6)).astype(np.float32)
    params = {"kernel": jnp.asarray(kernel)}

    def mask(structure, sparsity):
        optimizer = optim.dense_sparse_dense(
            dense_steps=0, sparse_steps=1, sparsity=sparsity, structure=structure
        )
        _, state = optimizer.update(params, optimizer.init(params), params)
        return np.asarray(state.mask["kernel"])

    blocks = mask(optim.Block(4, 2), 0.5)
    means = np.abs(kernel).reshape(2, 4, 3, 2).mean(axis=(1, 3))
    dropped = _by_hand.smallest(means, 3)
    np.testing.assert_array_equal(blocks, ~np.repeat(np.repeat(dropped, 4, 0), 2, 1))
    two_of_four = mask(optim.NOfM(2, 4), 0.5)
    for group in range(2):
        for column in range(6):
            rows = slice(4 * group, 4 * group + 4)
            expected = ~_by_hand.smallest(kernel[rows, column], 2)
            np.testing.assert_array_equal(two_of_four[rows, column], expected)


def test_bfloat16_weights_become_zero_to_the_bit():
    optimizer = optim.dense_sparse_dense(dense_steps=0, sparse_steps=5, sparsity=0.5)
    rng = np.random.default_rng(0)
    params = {"kernel": jnp.asarray(rng.standard_normal((8, 8)), jnp.bfloat16)}
    state = optimizer.init(params)
    for _ in range(3):
        grads = {"kernel": jnp.asarray(rng.standard_normal((8, 8)), jnp.bfloat16)}
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        assert params["kernel"].dtype == jnp.bfloat16
        assert _by_hand.is_positive_zero(np.asarray(params["kernel"], np.float32)).sum() == 32


def test_shard_map_with_replicated_state_equals_one_device():
    optimizer = optim.dense_sparse_dense(dense_steps=1, sparse_steps=2, sparsity=0.5)
    params = {"kernel": jnp.arange(1.0, 17.0).reshape(4, 4)}
    grads = jnp.linspace(-1.0, 1.0, 8 * 16).reshape(8, 4, 4)
    sharded = _by_hand.step_over_devices(optimizer)
    # Copies, as the step is given what it is called with.
    alone, alone_state = jax.tree.map(jnp.copy, params), optimizer.init(params)
    state = optimizer.init(params)
    for _ in range(4):
        params, state = sharded(grads, state, params)
        updates, alone_state = optimizer.update({"kernel": grads.mean(axis=0)}, alone_state, alone)
        alone = optax.apply_updates(alone, updates)
        np.testing.assert_allclose(params["kernel"], alone["kernel"], rtol=1e-6)
        np.testing.assert_array_equal(params["kernel"] == 0, alone["kernel"] == 0)


def test_ordinary_steps_do_not_rank():
    optimizer = optim.dense_sparse_dense(dense_steps=1, sparse_steps=2)
    params = {"kernel": jnp.ones((4, 4))}
    jaxpr = jax.make_jaxpr(optimizer.update)(params, optimizer.init(params), params)
    names = [equation.primitive.name for equation in jaxpr.eqns]
    assert "cond" in names and "cumsum" in str(jaxpr) and "cumsum" not in names


def test_steps_from_a_schedule_file_may_be_arrays():
    """`inject_hyperparams` hands everything over as arrays."""
    options = {"dense_steps": 1, "sparse_steps": 2, "redense_steps": 1, "repeats": 2}
    injected = optax.inject_hyperparams(optim.dense_sparse_dense)(where=None, **options)
    plain = optim.dense_sparse_dense(**options)
    params = {"kernel": jnp.arange(1.0, 10.0).reshape(3, 3)}
    state, plain_state = injected.init(params), plain.init(params)
    step, plain_step = jax.jit(injected.update), jax.jit(plain.update)
    for _ in range(8):
        updates, state = step(params, state, params)
        expected, plain_state = plain_step(params, plain_state, params)
        np.testing.assert_array_equal(updates["kernel"], expected["kernel"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dense_steps": -1}, "dense_steps=-1 must be at least 0"),
        ({"dense_steps": 1.5}, "dense_steps=1.5 must be a whole number"),
        ({"sparse_steps": 0}, "sparse_steps=0 must be at least 1"),
        ({"redense_steps": 0}, "redense_steps=0 must be at least 1"),
        ({"repeats": 0}, "repeats=0 must be at least 1"),
        ({"repeats": 2}, "redense_steps=None must be given with repeats=2"),
        ({"sparsity": 1.0}, "sparsity=1.0 must be at least 0 and less than 1"),
        ({"sparsity": -0.1}, "sparsity=-0.1 must be"),
        ({"sparsity": float("nan")}, "sparsity=nan must be"),
        ({"structure": optim.NOfM(2, 4)}, "sparsity=0.3 must be 0.5 with NOfM"),
        ({"structure": 4}, "structure=4 must be None, a Block or an NOfM"),
        ({"redense_scale": -1.0}, "redense_scale=-1.0 must be finite and at least 0"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        optim.dense_sparse_dense(**({"dense_steps": 1, "sparse_steps": 1} | options))


def test_bad_trees():
    optimizer = optim.dense_sparse_dense(dense_steps=1, sparse_steps=1)
    with pytest.raises(ValueError, match="where=matrices selects none of the 1 leaves"):
        optimizer.init({"bias": jnp.ones(3)})
    params = {"kernel": jnp.ones((2, 2))}
    with pytest.raises(ValueError, match="dense_sparse_dense needs params"):
        optimizer.update(params, optimizer.init(params))
