"""Gradual pruning against loops written by hand, and what must hold of any mask."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, PartitionSpec

from deepaudio import optim
from deepaudio.optim._masks import dropped_count, keep_largest, magnitudes_of
from tests.optim import _by_hand

STEPS = {"start": 3, "ramp": 13, "end": 29, "frequency": 4}
Q = {"dense": 0.8, "recurrent": 0.4}


def closed_form(t, *, start, ramp, end, frequency, theta, phi):
    """The paper's threshold, in Python."""
    if t <= start:
        return 0.0
    t = min(t, end)
    if t < ramp:
        return theta * (t - start + 1) / frequency
    return (theta * (ramp - start + 1) + phi * (t - ramp + 1)) / frequency


def growth(q, *, start, ramp, end, frequency):
    """Theta of a q."""
    return 2 * q * frequency / (2 * (ramp - start) + 3 * (end - ramp))


def run(optimizer, params, num_steps, grads=None):
    """Params and state after some steps, at a gradient of zero if none is given."""
    grads = jax.tree.map(jnp.zeros_like, params) if grads is None else grads
    state, step = optimizer.init(params), jax.jit(optimizer.update)
    for _ in range(num_steps):
        updates, state = step(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


# The loop by hand.


@pytest.mark.parametrize("name", list(_by_hand.OPTIMIZERS))
def test_threshold_schedule_against_a_loop_by_hand(name):
    weights, updates = _by_hand.start(), _by_hand.Updates(name)
    masks = {path: np.ones(w.shape, bool) for path, w in weights.items()}
    trained = _by_hand.train(optim.gradual_pruning(q=Q, **STEPS), name, 40)
    for t, found in enumerate(trained):
        if STEPS["start"] < t < STEPS["end"] and t % STEPS["frequency"] == 0:
            for kind, q in Q.items():
                theta = growth(q, **STEPS)
                threshold = closed_form(t, **STEPS, theta=theta, phi=1.5 * theta)
                masks[f"{kind}/kernel"] &= np.abs(weights[f"{kind}/kernel"]) > threshold
        for path, u in updates(_by_hand.gradients(weights, t), weights).items():
            weights[path] = np.where(masks[path], weights[path] + u, 0.0)
            np.testing.assert_allclose(found[path], weights[path], rtol=2e-3, atol=2e-4)
            np.testing.assert_array_equal(_by_hand.is_positive_zero(found[path]), ~masks[path])
    # The test means something only if much was pruned, and not all of it.
    for kind in Q:
        assert 0.25 < (~masks[f"{kind}/kernel"]).mean() < 0.95


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_cubic_schedule_against_a_loop_by_hand(name):
    weights, updates = _by_hand.start(), _by_hand.Updates(name)
    masks = {path: np.ones(w.shape, bool) for path, w in weights.items()}
    transform = optim.gradual_pruning(start=3, end=29, frequency=4, sparsity=0.85, schedule="cubic")
    for t, found in enumerate(_by_hand.train(transform, name, 36)):
        if 3 < t <= 29 and ((t - 3) % 4 == 0 or t == 29):
            share = 0.85 * (1 - (1 - (t - 3) / 26) ** 3)
            for path, w in weights.items():
                if w.ndim == 2:
                    masks[path] = ~_by_hand.smallest(w, round(share * w.size))
        for path, u in updates(_by_hand.gradients(weights, t), weights).items():
            weights[path] = np.where(masks[path], weights[path] + u, 0.0)
            np.testing.assert_allclose(found[path], weights[path], rtol=2e-3, atol=2e-4)
            np.testing.assert_array_equal(_by_hand.is_positive_zero(found[path]), ~masks[path])
    assert (~masks["dense/kernel"]).sum() == round(0.85 * 30)


def test_regrowing_against_a_loop_by_hand():
    weights, updates = _by_hand.start(), _by_hand.Updates("momentum")
    shadow = {path: w.copy() for path, w in weights.items()}
    masks = {path: np.ones(w.shape, bool) for path, w in weights.items()}
    returned = 0
    transform = optim.gradual_pruning(q=Q, regrow=True, **STEPS)
    for t, found in enumerate(_by_hand.train(transform, "momentum", 40)):
        if STEPS["start"] < t < STEPS["end"] and t % STEPS["frequency"] == 0:
            for kind, q in Q.items():
                theta, path = growth(q, **STEPS), f"{kind}/kernel"
                new = np.abs(shadow[path]) > closed_form(t, **STEPS, theta=theta, phi=1.5 * theta)
                returned += (new & ~masks[path]).sum()
                masks[path] = new
        for path, u in updates(_by_hand.gradients(weights, t), weights).items():
            shadow[path] = shadow[path] + u
            weights[path] = np.where(masks[path], shadow[path], 0.0)
            np.testing.assert_allclose(found[path], weights[path], rtol=2e-3, atol=2e-4)
            np.testing.assert_array_equal(_by_hand.is_positive_zero(found[path]), ~masks[path])
    assert returned > 0


def test_only_regrowing_brings_weights_back():
    options = dict(start=0, ramp=2, end=4, frequency=1, theta=0.4, phi=0.0)
    params = {"kernel": jnp.array([[-0.5, 2.0]])}
    grads = {"kernel": jnp.ones((1, 2))}
    # Before the update of step 1 the first weight is 0.5, below 0.4 * 2; later it would be 1.5.
    plain, _ = run(optim.gradual_pruning(**options), params, 4, grads)
    grown, state = run(optim.gradual_pruning(**options, regrow=True), params, 4, grads)
    np.testing.assert_array_equal(plain["kernel"], [[0.0, 6.0]])
    np.testing.assert_array_equal(grown["kernel"], [[3.5, 6.0]])
    np.testing.assert_array_equal(state.shadow["kernel"], grown["kernel"])


def test_a_falling_sparsity_brings_nothing_back():
    """As an injected schedule of the sparsity could have it."""

    def after(sparsity, state):
        options = dict(start=0, end=1, frequency=1, schedule="cubic")
        optimizer = optim.gradual_pruning(sparsity=jnp.float32(sparsity), **options)
        state = state or optimizer.init(params)
        return optimizer.update(params, state._replace(count=jnp.ones([], jnp.int32)), params)[1]

    params = {"kernel": jnp.arange(1.0, 9.0).reshape(2, 4)}
    high = after(0.75, None)
    assert int(high.mask["kernel"].sum()) == 2
    np.testing.assert_array_equal(after(0.25, high).mask["kernel"], high.mask["kernel"])


# The schedules.


@st.composite
def schedules(draw):
    start = draw(st.integers(0, 1000))
    ramp = start + draw(st.integers(0, 1000))
    end = ramp + draw(st.integers(1, 1000))
    return {"start": start, "ramp": ramp, "end": end, "frequency": draw(st.integers(1, 200))}


@given(schedules(), st.floats(0, 10), st.floats(0, 10))
@settings(max_examples=50, deadline=None)
def test_threshold_equals_the_closed_form(steps, theta, phi):
    at = np.linspace(0, steps["end"] + 10, 23).astype(np.int32)
    at = np.concatenate([at, [steps["start"], steps["ramp"], steps["end"]]]).astype(np.int32)
    found = optim.pruning_threshold(at, **steps, theta=theta, phi=phi)
    expected = [closed_form(int(t), **steps, theta=theta, phi=phi) for t in at]
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-30)


@given(schedules(), st.floats(0.01, 10))
@settings(max_examples=50, deadline=None)
def test_threshold_of_q_grows_to_about_q(steps, q):
    theta = growth(q, **steps)
    at = np.linspace(0, steps["end"], 64).astype(np.int32)
    found = np.asarray(optim.pruning_threshold(at, **steps, theta=theta, phi=1.5 * theta))
    assert (np.diff(found) >= -1e-5 * q).all()
    # The paper adds one step to each of the two spans, which is all that is between it and q.
    extra = 2.5 * theta / steps["frequency"]
    np.testing.assert_allclose(found[-1], q + extra, rtol=1e-4)


def test_q_and_its_theta_are_the_same(rng):
    params = {"kernel": jnp.asarray(rng.standard_normal((20, 20)), jnp.float32)}
    theta = growth(0.8, **STEPS)
    _, state = run(optim.gradual_pruning(**STEPS, q=0.8), params, 29)
    for other in (
        {"theta": theta},
        {"theta": {"dense": theta}},
        {"theta": theta, "phi": 1.5 * theta},
        {"theta": theta, "phi": {"dense": 1.5 * theta}},
        {"q": {"dense": 0.8}},
    ):
        _, same = run(optim.gradual_pruning(**STEPS, **other), params, 29)
        np.testing.assert_array_equal(state.mask["kernel"], same.mask["kernel"])
    _, other = run(optim.gradual_pruning(**STEPS, theta=theta, phi=theta), params, 29)
    assert other.mask["kernel"].sum() > state.mask["kernel"].sum()


def test_a_threshold_of_zero_prunes_nothing(rng):
    params = {"kernel": jnp.asarray(rng.standard_normal((5, 5)), jnp.float32)}
    _, state = run(optim.gradual_pruning(**STEPS, q=0.0), params, 30)
    assert state.mask["kernel"].all()


def test_masks_change_at_mask_steps_only(rng):
    optimizer = optim.gradual_pruning(start=2, ramp=7, end=12, frequency=3, q=2.0)
    params = {"kernel": jnp.asarray(rng.uniform(-2, 2, (40, 40)), jnp.float32)}
    state, kept, step = optimizer.init(params), [], jax.jit(optimizer.update)
    for _ in range(20):
        _, state = step(params, state, params)
        kept.append(int(state.mask["kernel"].sum()))
    changed = [t for t in range(1, 20) if kept[t] != kept[t - 1]]
    assert changed == [3, 6, 9] and int(state.count) == 20 and kept[0] == 1600


def test_the_cubic_schedule_ends_at_its_end():
    """Also where `frequency` does not divide the span."""
    params = {"kernel": jnp.arange(1.0, 101.0).reshape(10, 10)}
    optimizer = optim.gradual_pruning(start=1, end=9, frequency=5, sparsity=0.83, schedule="cubic")
    state, dropped, step = optimizer.init(params), [], jax.jit(optimizer.update)
    for _ in range(12):
        _, state = step(params, state, params)
        dropped.append(int((~state.mask["kernel"]).sum()))
    middle = round(83 * (1 - (1 - 5 / 8) ** 3))
    assert dropped == [0] * 6 + [middle] * 3 + [83] * 3


@jax.jit
def largest(weights, kept, sparsity):
    return keep_largest(magnitudes_of(weights, kept), sparsity, 1.0, None)


@given(
    st.lists(st.integers(-3, 3) | st.floats(width=32, allow_nan=False), min_size=24, max_size=24),
    st.lists(st.booleans(), min_size=24, max_size=24),
    st.floats(0, 1, width=32, exclude_max=True),
)
@settings(max_examples=100, deadline=None)
def test_ranks_are_exact_with_ties(values, kept, sparsity):
    kernel, kept = np.array(values, np.float32).reshape(4, 6), np.array(kept).reshape(4, 6)
    found = largest(jnp.asarray(kernel), jnp.asarray(kept), jnp.float32(sparsity))
    # What was dropped before ranks below zero itself.
    ranked = np.where(kept, np.abs(kernel), -1).ravel()
    order = sorted(range(24), key=lambda i: (ranked[i], i))
    dropped = np.isin(np.arange(24), order[: round(np.float32(sparsity) * np.float32(24))])
    np.testing.assert_array_equal(found, ~dropped.reshape(4, 6))


def test_counts_of_large_leaves_are_exact():
    """Where float32 no longer counts in ones."""
    for size in (2**24 + 3, 2**30 + 7):
        assert int(dropped_count(0.9, 1.0, size)) == round(0.9 * size)


# What comes out of the chain.


@pytest.mark.parametrize(
    ("param_dtype", "update_dtype"),
    [
        ("float32", "float32"),
        ("float32", "bfloat16"),
        ("float32", "float16"),
        ("bfloat16", "bfloat16"),
        ("float16", "float32"),
        ("bfloat16", "float16"),
    ],
)
@pytest.mark.parametrize("regrow", [False, True])
def test_pruned_weights_are_zero_to_the_bit(rng, param_dtype, update_dtype, regrow):
    optimizer = optim.gradual_pruning(
        start=0, end=1, frequency=1, sparsity=0.5, schedule="cubic", regrow=regrow
    )
    params = {"kernel": jnp.asarray(rng.standard_normal((8, 8)) / 3, param_dtype)}
    state, step = optimizer.init(params), jax.jit(optimizer.update)
    for _ in range(4):
        grads = {"kernel": jnp.asarray(rng.standard_normal((8, 8)), update_dtype)}
        updates, state = step(grads, state, params)
        with jax.numpy_dtype_promotion("standard"):
            params = optax.apply_updates(params, updates)
    kernel = np.asarray(params["kernel"].astype(jnp.float32))
    assert params["kernel"].dtype == param_dtype
    assert _by_hand.is_positive_zero(kernel).sum() == (kernel == 0).sum() == 32
    np.testing.assert_array_equal(kernel == 0, ~state.mask["kernel"])


def test_kept_and_unselected_updates_pass_unchanged(rng):
    optimizer = optim.gradual_pruning(
        start=0, ramp=1, end=2, frequency=1, q=0.5, where=lambda path, leaf: path == "a"
    )
    params = {name: jnp.asarray(rng.standard_normal((4, 4)), jnp.float32) for name in "ab"}
    state = optimizer.init(params)
    assert state.mask["b"] == optax.MaskedNode() and state.count.dtype == jnp.int32
    for _ in range(2):
        grads = {name: jnp.asarray(rng.standard_normal((4, 4)), jnp.float32) for name in "ab"}
        updates, state = optimizer.update(grads, state, params)
    assert updates["b"] is grads["b"]
    kept = np.asarray(state.mask["a"])
    assert 0 < kept.sum() < 16
    np.testing.assert_array_equal(updates["a"][kept], grads["a"][kept])
    np.testing.assert_array_equal(updates["a"][~kept], -params["a"][~kept])


def test_the_update_of_a_pruned_weight_may_be_nan():
    optimizer = optim.gradual_pruning(start=0, end=1, frequency=1, sparsity=0.5, schedule="cubic")
    params, state = run(optimizer, {"kernel": jnp.array([[1.0, 2.0]])}, 2)
    updates, _ = optimizer.update({"kernel": jnp.array([[jnp.nan, 1.0]])}, state, params)
    np.testing.assert_array_equal(optax.apply_updates(params, updates)["kernel"], [[0.0, 3.0]])


def test_without_the_transform_adam_moves_pruned_weights():
    """Why masking the gradient before Adam is not enough, and this comes last."""
    dropped = _by_hand.smallest(_by_hand.start()["dense/kernel"], 15)
    transform = optim.gradual_pruning(start=0, end=4, frequency=4, sparsity=0.5, schedule="cubic")
    *_, masked = _by_hand.train(transform, "adam", 12)
    *_, free = _by_hand.train(optax.identity(), "adam", 12)
    assert (masked["dense/kernel"] == 0).sum() == dropped.sum()
    assert (free["dense/kernel"] == 0).sum() == 0


# Life in a training step.


@pytest.mark.parametrize("regrow", [False, True])
@pytest.mark.parametrize("schedule", [{"q": 0.5, "ramp": 2}, {"sparsity": 0.5}])
def test_ordinary_steps_rank_nothing(schedule, regrow):
    kind = "cubic" if "sparsity" in schedule else "threshold"
    optimizer = optim.gradual_pruning(
        start=0, end=9, frequency=2, schedule=kind, regrow=regrow, **schedule
    )
    params = {"kernel": jnp.ones((4, 4))}
    jaxpr = jax.make_jaxpr(optimizer.update)(params, optimizer.init(params), params)
    of_arrays = [
        equation.primitive.name
        for equation in jaxpr.eqns
        if any(output.aval.shape for output in equation.outvars)
    ]
    assert not {"abs", "gt", "cumsum", "reduce_sum"} & set(of_arrays)
    assert "abs" in str(jaxpr) and ("cumsum" in str(jaxpr)) == (kind == "cubic")
    if not regrow:
        # The mask, held or taken; and one where, which jax wraps in a jit.
        assert sorted(of_arrays) == ["cond", "jit", "neg"]


def test_shard_map_with_replicated_state_equals_one_device(rng):
    optimizer = optim.gradual_pruning(start=0, ramp=2, end=5, frequency=2, q=0.8, regrow=True)
    params = {"kernel": jnp.asarray(rng.standard_normal((4, 4)), jnp.float32)}
    grads = jnp.asarray(rng.standard_normal((8, 4, 4)), jnp.float32)
    sharded = _by_hand.step_over_devices(optimizer)
    alone, alone_state = run(optimizer, params, 6, {"kernel": grads.mean(axis=0)})
    state = optimizer.init(params)
    for _ in range(6):
        params, state = sharded(grads, state, params)
    np.testing.assert_allclose(params["kernel"], alone["kernel"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(state.mask["kernel"], alone_state.mask["kernel"])
    assert 0 < int(state.mask["kernel"].sum()) < 16


def test_shard_map_with_sharded_leaves_ranks_each_shard(rng):
    optimizer = optim.gradual_pruning(start=0, end=1, frequency=1, sparsity=0.5, schedule="cubic")
    params = {"kernel": jnp.asarray(rng.standard_normal((16, 4)), jnp.float32)}
    mesh = Mesh(np.array(jax.devices()), ("model",))
    rows = PartitionSpec("model")
    specs = optim.GradualPruningState(PartitionSpec(), {"kernel": rows}, ())
    step = jax.jit(
        jax.shard_map(
            optimizer.update, mesh=mesh, in_specs=(rows, specs, rows), out_specs=(rows, specs)
        )
    )
    state = optimizer.init(params)
    for _ in range(2):
        _, state = step(params, state, params)
    np.testing.assert_array_equal(state.mask["kernel"].reshape(8, 8).sum(axis=1), np.full(8, 4))


@pytest.mark.parametrize(
    "options",
    [
        {"ramp": 4, "q": 0.9},
        {"ramp": 4, "theta": 0.3, "phi": 0.2},
        {"sparsity": 0.6, "schedule": "cubic"},
    ],
)
def test_hyperparameters_may_be_arrays(rng, options):
    """`inject_hyperparams` hands everything over as arrays."""
    options = {"start": 1, "end": 9, "frequency": 3} | options
    params = {"kernel": jnp.asarray(rng.standard_normal((5, 5)), jnp.float32)}
    injected = optax.inject_hyperparams(optim.gradual_pruning)(where=None, **options)
    _, expected = run(optim.gradual_pruning(**options), params, 10)
    _, state = run(injected, params, 10)
    found = optax.tree.get(state, "mask")["kernel"]
    assert 0 < int(found.sum()) < 25
    np.testing.assert_array_equal(found, expected.mask["kernel"])


# q of a trained model.


def test_q_is_a_percentile_per_layer_type(rng):
    dense = [rng.standard_normal((20, 30)), 3 * rng.standard_normal((10, 30))]
    params = {
        "a": {"kernel": jnp.asarray(dense[0], jnp.bfloat16), "bias": 100 * jnp.ones(30)},
        "b": {"kernel": jnp.asarray(dense[1], jnp.float32)},
        "lstm": {"recurrent_kernel": jnp.asarray(rng.uniform(-1, 1, (2, 40, 40)), jnp.float32)},
    }
    found = optim.estimate_q(params, 0.8)
    together = np.concatenate([np.abs(d).ravel() for d in dense])
    assert set(found) == {"dense", "recurrent"}
    assert found["dense"] == pytest.approx(np.quantile(together, 0.8), rel=1e-2)
    assert found["recurrent"] == pytest.approx(0.8, abs=0.03)
    named = optim.estimate_q(params, 0.8, layer_type=lambda path, leaf: path.split("/")[0])
    assert set(named) == {"a", "b", "lstm"}


def test_q_leads_to_its_sparsity(rng):
    """With weights that stand still, q's share of them is pruned."""
    params = {"kernel": jnp.asarray(rng.standard_normal((60, 60)), jnp.float32)}
    q = optim.estimate_q(params, 0.9)
    pruned, _ = run(
        optim.gradual_pruning(start=0, ramp=200, end=400, frequency=1, q=q), params, 400
    )
    assert optim.sparsity_report(pruned)["total"] == pytest.approx(0.9, abs=0.005)
