"""The one sharded step: against doing it by hand, and on one device against eight."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, PartitionSpec

from deepaudio import optim, training


def _mesh(count, model=1):
    return Mesh(np.array(jax.devices()[:count]).reshape(-1, model), ("data", "model"))


def _run(task, batches, count, steps=5, optimizer=None, model=1, accumulate=1):
    optimizer = optimizer or optax.adam(0.1)
    mesh = _mesh(count, model)
    step = training.make_train_step(task, optimizer, mesh, average_decay=0.9, accumulate=accumulate)
    state = training.place_state(training.init_state(task, optimizer, seed=0), mesh)
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


class WideTask:
    """A matrix large enough to be shared out, and a batch mean in the model's state."""

    def init(self, key):
        return {
            "params": {"w": jax.random.normal(key, (128, 130)), "b": jnp.zeros((130,))},
            "batch_stats": {"mean": jnp.zeros(())},
        }

    def loss(self, params, model_state, batch, key):
        del key
        y = batch["x"] @ params["w"] / 10.0 + params["b"][None]
        loss = jnp.mean(jnp.square(y - 1.0))
        mean = 0.9 * model_state["batch_stats"]["mean"] + 0.1 * batch["x"].mean()
        return loss, ({"loss/total": loss}, {"batch_stats": {"mean": mean}})


class WideBatches:
    def __init__(self, poison=None):
        self._number, self._poison = 0, poison

    def __next__(self):
        x = np.random.default_rng(self._number).standard_normal((16, 128)).astype(np.float32)
        if self._number == self._poison:
            x[3, 5] = 1e30
        self._number += 1
        return {"x": x}


def _assert_close(states, **tolerance):
    leaves = [jax.tree.leaves(state) for state in states]
    for a, b in zip(*leaves, strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


def test_a_second_axis_shares_out_the_state_and_changes_nothing():
    momentum = optax.sgd(0.1, momentum=0.9)
    one, _ = _run(WideTask(), WideBatches, 1, optimizer=momentum)
    shared, _ = _run(WideTask(), WideBatches, 8, optimizer=momentum, model=2)
    trees = (shared.params, optax.tree.get(shared.opt_state, "trace"), shared.average["params"])
    for kernel in (tree["w"] for tree in trees):
        assert kernel.sharding.spec == PartitionSpec(None, "model")
        assert {s.data.shape for s in kernel.addressable_shards} == {(128, 65)}
    assert shared.params["b"].sharding.is_fully_replicated
    _assert_close((one, shared), rtol=1e-5, atol=1e-6)


def test_mesh_must_divide():
    assert dict(training.data_mesh(2).shape) == {"data": 4, "model": 2}
    with pytest.raises(ValueError, match="model=3 must divide the 8 devices"):
        training.data_mesh(3)


def test_accumulated_gradients_are_the_whole_batchs():
    whole, whole_metrics = _run(WideTask(), WideBatches, 4, optimizer=optax.sgd(0.1))
    parts, parts_metrics = _run(WideTask(), WideBatches, 4, optimizer=optax.sgd(0.1), accumulate=4)
    _assert_close((whole.params, parts.params), rtol=1e-5, atol=1e-6)
    _assert_close((whole_metrics, parts_metrics), rtol=1e-5)


@pytest.mark.parametrize("accumulate", [0, 3])
def test_accumulation_must_fit(accumulate):
    with pytest.raises(ValueError, match="accumulate="):
        _run(WideTask(), WideBatches, 1, accumulate=accumulate)


def test_a_step_that_overflows_changes_only_the_scale():
    """Steps 0, 1, 3, 4 by hand are steps 0 to 4 with the poisoned one between."""
    chain = optim.make_optimizer(0.01, max_gradient_norm=1.0, loss_scaling={"initial_scale": 8.0})
    mesh = _mesh(2)
    step = training.make_train_step(WideTask(), chain, mesh, average_decay=0.9)
    state = training.place_state(training.init_state(WideTask(), chain, seed=0), mesh)
    source = WideBatches(poison=2)
    for number in range(4):
        before = jax.device_get(state)
        state, metrics = step(state, next(source))
        after = jax.device_get(state)
        leaves = [
            jax.tree.leaves((s.params, s.model_state, s.average, s.opt_state.inner_state))
            for s in (before, after)
        ]
        same = [np.array_equal(a, b) for a, b in zip(*leaves, strict=True)]
        assert int(after.step) == number + 1
        assert float(metrics["ran"]) == (number != 2)
        assert float(metrics["loss_scale"]) == (4.0 if number == 3 else 8.0)
        if number == 2:
            assert all(same)
        else:
            assert not any(same[:2]) and np.isfinite(float(metrics["gradient_norm"]))


def test_scaling_does_not_change_what_is_learned():
    """Powers of two scale exactly."""
    plain = optim.make_optimizer(0.01, max_gradient_norm=1.0)
    scaled = optim.make_optimizer(0.01, max_gradient_norm=1.0, loss_scaling={})
    a, plain_metrics = _run(WideTask(), WideBatches, 1, optimizer=plain)
    b, scaled_metrics = _run(WideTask(), WideBatches, 1, optimizer=scaled)
    # The compiler orders sums differently, which Adam magnifies where gradients are tiny.
    _assert_close((a.params, b.params), rtol=1e-4, atol=1e-5)
    for name in ("loss/total", "gradient_norm"):
        np.testing.assert_allclose(plain_metrics[name], scaled_metrics[name], rtol=1e-6)


def test_the_average_of_pruned_weights_is_zero_too():
    prune = optim.gradual_pruning(
        schedule="cubic", sparsity=0.9, start=0, ramp=0, end=4, frequency=1
    )
    chain = optim.make_optimizer(0.01, max_gradient_norm=1.0, sparsity=[prune])
    state, _ = _run(WideTask(), WideBatches, 2, steps=6, optimizer=chain)
    weights, average = (np.asarray(t["w"]) for t in (state.params, state.average["params"]))
    assert abs((weights == 0).mean() - 0.9) < 0.01
    np.testing.assert_array_equal(average == 0, weights == 0)


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
