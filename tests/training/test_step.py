"""The one sharded step: against doing it by hand, and on one device against eight."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh

from deepaudio import training


def _mesh(count):
    return Mesh(np.array(jax.devices()[:count]), ("data",))


def _run(task, batches, count, steps=5, optimizer=None):
    optimizer = optimizer or optax.adam(0.1)
    step = training.make_train_step(task, optimizer, _mesh(count), average_decay=0.9)
    state = training.init_state(task, optimizer, seed=0)
    source = batches()
    for _ in range(steps):
        state, metrics = step(state, next(source))
    return state, metrics


def test_step_is_the_optimizer_by_hand(task, batches):
    optimizer = optax.sgd(0.1, momentum=0.9)
    state, _ = _run(task, batches, 8, steps=3, optimizer=optimizer)

    start = training.init_state(task, optimizer, seed=0)
    params, opt_state = start.params, start.opt_state
    model_state, source = start.model_state, batches()
    for number in range(3):
        key = jax.random.fold_in(jax.random.wrap_key_data(start.key), number)
        batch = jax.tree.map(jnp.asarray, next(source))
        grads, (_, model_state) = jax.grad(task.loss, has_aux=True)(params, model_state, batch, key)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
    assert int(state.step) == 3
    assert float(state.model_state["batch_stats"]["seen"]) == 3
    for name in ("w", "b"):
        np.testing.assert_allclose(state.params[name], params[name], rtol=1e-5)


def test_eight_devices_equal_one(task, batches):
    one, _ = _run(task, batches, 1)
    eight, _ = _run(task, batches, 8)
    assert len(eight.params["w"].sharding.device_set) == 8
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_batch_must_divide_by_devices(task, batches):
    step = training.make_train_step(task, optax.sgd(0.1), _mesh(8), average_decay=0.9)
    state = training.init_state(task, optax.sgd(0.1), seed=0)
    with pytest.raises(ValueError, match="batch of 12 must be divisible by 8 devices"):
        step(state, next(batches(size=12)))


def test_average_follows_with_its_decay(task, batches):
    optimizer = optax.sgd(0.1)
    step = training.make_train_step(task, optimizer, _mesh(1), average_decay=0.5)
    state = training.init_state(task, optimizer, seed=0)
    source = batches()
    average = float(state.average["params"]["b"])
    for number in range(20):
        state, _ = step(state, next(source))
        rate = max(0.5, 1 - (1 + number) / (10 + number))
        average += rate * (float(state.params["b"]) - average)
    np.testing.assert_allclose(state.average["params"]["b"], average, rtol=1e-5)
    assert float(state.average["params"]["b"]) != float(state.params["b"])


def test_clipping_comes_before_adam():
    # With b1 = b2 = 0 Adam's update is the sign of the gradient whatever its size; clipping a
    # gradient before it changes nothing, clipping the update after it would.
    schedule = optax.constant_schedule(1.0)
    chain = training.make_optimizer(schedule, max_gradient_norm=1e-3, weight_decay=0.0)
    params = {"w": jnp.zeros((2, 2))}
    grads = {"w": jnp.full((2, 2), 50.0)}
    updates, _ = chain.update(grads, chain.init(params), params)
    np.testing.assert_allclose(updates["w"], -np.ones((2, 2)), rtol=1e-3)


def test_weight_decay_spares_vectors():
    chain = training.make_optimizer(
        optax.constant_schedule(1.0), max_gradient_norm=1.0, weight_decay=0.1
    )
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones((2,))}
    updates, _ = chain.update(jax.tree.map(jnp.zeros_like, params), chain.init(params), params)
    np.testing.assert_allclose(updates["kernel"], np.full((2, 2), -0.1), rtol=1e-6)
    np.testing.assert_array_equal(updates["bias"], np.zeros(2))


def test_staircase_is_the_papers():
    schedule = training.make_schedule(training.ScheduleConfig(), 50_000)
    for step, rate in [(0, 6e-4), (9_999, 6e-4), (10_000, 6e-4 * 0.98), (49_999, 6e-4 * 0.98**4)]:
        np.testing.assert_allclose(schedule(step), rate, rtol=1e-5)


def test_stable_schedule_rises_stays_and_falls():
    config = training.ScheduleConfig(kind="stable", peak=1.0, warmup_steps=10, decay_share=0.5)
    schedule = training.make_schedule(config, 100)
    expected = [(0, 0.0), (5, 0.5), (10, 1.0), (50, 1.0), (75, 0.5), (100, 0.0)]
    for step, rate in expected:
        np.testing.assert_allclose(schedule(step), rate, atol=1e-6)


def test_unknown_schedule_is_said():
    with pytest.raises(ValueError, match="cosine"):
        training.make_schedule(training.ScheduleConfig(kind="cosine"), 10)
