"""Blocks and N of every M, against brute force."""

import jax
import jax.numpy as jnp
import numpy as np

from deepaudio import optim
from tests.optim import _by_hand


def structured(kernel, structure, num_steps, **options):
    optimizer = optim.gradual_pruning(start=0, frequency=1, structure=structure, **options)
    params = {"kernel": jnp.asarray(kernel)}
    state, step = optimizer.init(params), jax.jit(optimizer.update)
    for _ in range(num_steps):
        _, state = step(params, state, params)
    return np.asarray(state.mask["kernel"])


def per_block(kernel, rows, columns, reduction):
    stack, height, width = kernel.shape
    found = np.zeros((stack, height // rows, width // columns))
    for s, i, j in np.ndindex(found.shape):
        block = kernel[s, rows * i : rows * (i + 1), columns * j : columns * (j + 1)]
        found[s, i, j] = reduction(np.abs(block))
    return found


def spread(kept, rows, columns):
    return np.kron(kept, np.ones((1, rows, columns), bool)).astype(bool)


def test_blocks_by_threshold_and_by_rank(rng):
    kernel = rng.standard_normal((2, 6, 8)).astype(np.float32)
    block = optim.Block(3, 2)
    found = structured(kernel, block, 3, ramp=1, end=3, theta=0.9, phi=0.0)
    kept = per_block(kernel, 3, 2, np.max) > 0.9 * 2
    assert 0 < kept.sum() < kept.size
    np.testing.assert_array_equal(found, spread(kept, 3, 2))
    found = structured(kernel, block, 5, end=4, sparsity=0.7, schedule="cubic")
    dropped = _by_hand.smallest(per_block(kernel, 3, 2, np.mean), round(0.7 * 16))
    np.testing.assert_array_equal(found, spread(~dropped, 3, 2))


def places(kernel, m):
    """The place of each weight among its group's magnitudes."""
    found = np.zeros(kernel.shape, int)
    for stack, column in np.ndindex(kernel.shape[0], kernel.shape[2]):
        for first in range(0, kernel.shape[1], m):
            group = np.abs(kernel[stack, first : first + m, column])
            order = sorted(range(m), key=lambda i, group=group: (group[i], i))
            for place, i in enumerate(order):
                found[stack, first + i, column] = place
    return found


def test_two_of_four_by_rank(rng):
    kernel = rng.standard_normal((2, 8, 3)).astype(np.float32)
    for num_steps in (2, 3, 5):
        t = num_steps - 1
        dropped = round(2 * (1 - (1 - t / 4) ** 3))
        found = structured(
            kernel, optim.NOfM(2, 4), num_steps, end=4, sparsity=0.5, schedule="cubic"
        )
        np.testing.assert_array_equal(found, places(kernel, 4) >= dropped)
    assert (found.reshape(2, 2, 4, 3).sum(axis=2) == 2).all()


def test_two_of_four_by_threshold(rng):
    kernel = rng.standard_normal((2, 8, 3)).astype(np.float32)
    surplus = places(kernel, 4) < 2
    options = dict(ramp=1, end=4, theta=0.2, phi=0.0)
    for num_steps in (2, 3):
        found = structured(kernel, optim.NOfM(2, 4), num_steps, **options)
        low = np.abs(kernel) <= 0.4
        assert (surplus & low).any() and (surplus & ~low).any()
        np.testing.assert_array_equal(found, ~(surplus & low))
    # The last mask step makes the pattern whole.
    found = structured(kernel, optim.NOfM(2, 4), 4, **options)
    np.testing.assert_array_equal(found, ~surplus)
