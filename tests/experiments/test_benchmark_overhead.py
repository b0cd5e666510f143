"""The overhead benchmark, on a task of a few weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import benchmark_overhead
from experiments.configs import onsets_and_frames


class MatrixTask:
    """Least squares."""

    def init(self, key):
        return {"params": {"kernel": jax.random.normal(key, (4, 3))}}

    def loss(self, params, model_state, batch, key):
        loss = jnp.mean((batch["x"] @ params["kernel"]) ** 2)
        return loss, ({"loss/total": loss}, model_state)


@pytest.fixture
def loose_promotion():
    """optax's Adam raises a float to an integer power, which strict promotion forbids."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def test_all_chains_are_timed(loose_promotion):
    batch = {"x": np.ones((jax.device_count(), 4), np.float32)}
    found = benchmark_overhead.measure(MatrixTask(), batch, repetitions=3, frequency=50)
    assert [row["chain"] for row in found.rows] == [
        "clip, Adam",
        "whole chain",
        "whole chain, mask every step",
    ]
    assert all(len(row["all_seconds"]) == 3 for row in found.rows)
    assert found.rows[0]["ratio"] == 1.0 and found.ratio > 0


def test_the_ratio_holds_its_share_of_masks():
    # Masks add a half of the chain's time, and come every 50 steps.
    seconds = {"alone": [1.0, 2.0, 4.0], "chain": [1.2, 2.2, 4.8], "masking": [1.8, 3.3, 7.2]}
    found = benchmark_overhead._compare(seconds, frequency=50)
    assert [row["ratio"] for row in found.rows] == pytest.approx([1.0, 1.2, 1.8])
    assert found.ratio == pytest.approx(1.2 * 1.01)


def test_chains_do_what_they_are_timed_for(loose_promotion):
    weights = {"kernel": jnp.asarray(np.linspace(-1, 1, 20, dtype=np.float32).reshape(4, 5))}
    counts = []
    for chain in benchmark_overhead.make_chains(100).values():
        params, state = weights, chain.init(weights)
        for _ in range(3):
            updates, state = chain.update(jax.tree.map(jnp.zeros_like, params), state, params)
            params = jax.tree.map(jnp.add, params, updates)
        counts.append(int(jnp.sum(params["kernel"] == 0)))
    # Dense-sparse-dense drops 30 %.
    assert counts[0] == 0 and counts[1] == 6 and counts[2] >= 6


def test_masks_among_the_timed_steps_are_refused():
    with pytest.raises(ValueError, match="frequency=10 must be above 12"):
        benchmark_overhead.measure(MatrixTask(), {}, repetitions=10, frequency=10)


def test_a_random_batch_has_the_shapes_that_the_loss_takes():
    config = onsets_and_frames.get_config("small")
    config.batch_size, config.num_frames = 2, 3
    batch = benchmark_overhead.random_batch(config)
    assert batch["samples"].shape == (2, 3 * 512) and batch["frames"].shape == (2, 3, 88)
    assert {leaf.dtype for leaf in batch.values()} == {np.dtype(np.float32)}
