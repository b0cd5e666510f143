"""Loss scaling: against a hand-written loop, and what a skipped step leaves untouched."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from deepaudio import optim

PARAMS = {"kernel": np.array([[1.0, -2.0], [3.0, 0.5]], np.float32), "bias": np.float32([0.25])}


def _params():
    return jax.tree.map(jnp.asarray, PARAMS)


def _grads(value=1.0, dtype=jnp.float32, **leaves):
    grads = jax.tree.map(lambda leaf: jnp.full(leaf.shape, value, dtype), PARAMS)
    return {**grads, **leaves}


def _same(a, b):
    """Equal structure, dtypes and bits."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def _adam():
    # A schedule, weight decay and clipping, whose counters must stand still too.
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(optax.linear_schedule(0.1, 0.0, 10), weight_decay=0.1),
    )


@pytest.fixture
def loose_promotion():
    """optax's Adam raises a float to an integer power, which strict promotion forbids."""
    with jax.numpy_dtype_promotion("standard"):
        yield


# --- the scale's rule ---


class Loop:
    """The rule in plain Python, written from the docstring."""

    def __init__(self, scale, interval, growth, backoff, low, high, hysteresis):
        self.scale, self.interval, self.growth = scale, interval, growth
        self.backoff, self.low, self.high, self.hysteresis = backoff, low, high, hysteresis
        self.good, self.overflows, self.skipped = 0, 0, 0

    def step(self, finite):
        if finite:
            self.good += 1
            if self.good == self.interval:
                self.scale = min(self.scale * self.growth, self.high)
                self.good = self.overflows = 0
            return
        self.good = 0
        self.overflows += 1
        self.skipped += 1
        if self.overflows >= self.hysteresis:
            self.scale = max(self.scale * self.backoff, self.low)


@functools.cache
def _compiled(interval, growth, backoff, low, high, hysteresis):
    optimizer = optim.dynamic_loss_scaling(
        optax.sgd(0.5),
        initial_scale=4.0,
        growth_interval=interval,
        growth_factor=growth,
        backoff_factor=backoff,
        min_scale=low,
        max_scale=high,
        hysteresis=hysteresis,
    )

    @jax.jit
    def run(params, finite):
        def step(carry, good):
            params, state = carry
            grads = {"w": jnp.where(good, 2 * state.loss_scale, jnp.inf)}
            updates, state = optimizer.update(grads, state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), (params["w"], state._replace(inner_state=()))

        return jax.lax.scan(step, (params, optimizer.init(params)), finite)[1]

    return run


@pytest.mark.parametrize(
    "settings_",
    [
        (1, 2.0, 0.5, 1.0, 64.0, 1),
        (3, 2.0, 0.5, 1.0, 16.0, 1),
        (3, 4.0, 0.25, 0.5, 50.0, 2),
        (5, 1.5, 0.75, 2.0, 2.0**24, 3),
    ],
)
@settings(max_examples=30, deadline=None)
@given(finite=st.lists(st.booleans(), min_size=40, max_size=40))
def test_the_scale_follows_the_hand_written_loop(settings_, finite):
    weights, states = _compiled(*settings_)({"w": jnp.float32(0)}, jnp.array(finite))
    interval, growth, backoff, low, high, hysteresis = settings_
    loop = Loop(4.0, interval, growth, backoff, low, high, hysteresis)
    for number, good in enumerate(finite):
        loop.step(good)
        assert float(states.loss_scale[number]) == pytest.approx(loop.scale, rel=1e-6)
        assert int(states.good_steps[number]) == loop.good
        assert int(states.overflows_left[number]) == max(hysteresis - loop.overflows, 0)
        assert int(states.skipped[number]) == loop.skipped
        assert bool(states.ran[number]) == good
        # The gradient is 2 at every scale: each step that runs moves the weight by -1.
        assert float(weights[number]) == pytest.approx(loop.skipped - number - 1, rel=1e-5)


def test_hysteresis_forgives_overflows_until_the_scale_grows():
    optimizer = optim.dynamic_loss_scaling(
        optax.sgd(0.1), initial_scale=8.0, growth_interval=2, hysteresis=2
    )
    state, scales = optimizer.init(_params()), []
    for good in (False, True, False, False, True, True, False, False):
        _, state = optimizer.update(_grads(1.0 if good else jnp.nan), state, _params())
        scales.append(float(state.loss_scale))
    # One finite step between does not forgive; growth does.
    assert scales == [8, 8, 4, 2, 2, 4, 4, 2]


def test_static_scale_stays_and_overflows_are_skipped():
    optimizer = optim.dynamic_loss_scaling(
        optax.sgd(1.0), initial_scale=8.0, growth_interval=1, dynamic=False
    )
    state = optimizer.init(_params())
    updates, state = optimizer.update(_grads(8.0), state, _params())
    assert float(updates["bias"][0]) == -1.0
    updates, state = optimizer.update(_grads(jnp.inf), state, _params())
    assert not np.any(updates["kernel"])
    assert (float(state.loss_scale), int(state.skipped), bool(state.ran)) == (8.0, 1, False)


# --- what a skipped step leaves untouched ---


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_skipped_step_changes_nothing_within(loose_promotion, bad, dtype):
    optimizer = optim.dynamic_loss_scaling(_adam(), initial_scale=4.0)
    params = _params()
    update = jax.jit(optimizer.update)
    _, before = update(_grads(1.0, dtype), optimizer.init(params), params)
    grads = _grads(1.0, dtype, kernel=jnp.array([[1, 1], [1, bad]], dtype))
    updates, after = update(grads, before, params)
    _same(updates, jax.tree.map(jnp.zeros_like, params))
    _same(after.inner_state, before.inner_state)
    _same(optax.apply_updates(params, updates), params)
    assert not after.ran and int(after.skipped) == 1
    # The next finite step goes on from there.
    updates, after = update(_grads(1.0, dtype), after, params)
    assert after.ran and np.all(np.isfinite(updates["kernel"])) and np.all(updates["kernel"])


def test_the_inner_transformation_is_not_even_run():
    ran = []

    def update(updates, state, params=None):
        jax.debug.callback(lambda: ran.append(True))
        return updates, state

    inner = optax.GradientTransformation(lambda params: (), update)
    optimizer = optim.dynamic_loss_scaling(inner, initial_scale=1.0)
    step = jax.jit(optimizer.update)
    _, state = step(_grads(jnp.nan), optimizer.init(_params()), _params())
    jax.effects_barrier()
    assert ran == []
    step(_grads(1.0), state, _params())
    jax.effects_barrier()
    assert ran == [True]


def test_never_gives_up_however_many_overflows_follow():
    optimizer = optim.dynamic_loss_scaling(optax.sgd(1.0), initial_scale=4.0)
    update = jax.jit(optimizer.update)
    state = optimizer.init(_params())
    for _ in range(30):
        updates, state = update(_grads(jnp.nan), state, _params())
        assert not np.any(updates["kernel"])
    assert float(state.loss_scale) == 1.0 and int(state.skipped) == 30


def test_a_gradient_that_overflows_when_unscaled_is_skipped():
    optimizer = optim.dynamic_loss_scaling(optax.sgd(1.0), initial_scale=2.0**-8, min_scale=2**-10)
    updates, state = optimizer.update(_grads(1e38), optimizer.init(_params()), _params())
    assert not state.ran and not np.any(updates["kernel"])


def test_a_gradient_too_large_for_its_parameter_is_skipped():
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float16), _params())
    optimizer = optim.dynamic_loss_scaling(optax.sgd(1.0), initial_scale=1.0)
    updates, state = optimizer.update(_grads(1e5), optimizer.init(params), params)
    assert not state.ran and updates["kernel"].dtype == jnp.float16


# --- dtypes ---


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_gradients_update_float32_parameters(loose_promotion, dtype):
    scaled = jnp.asarray([0.3], dtype)
    optimizer = optim.dynamic_loss_scaling(_adam(), initial_scale=2.0**15)
    plain, params = _adam(), {"w": jnp.float32([2.0])}
    updates, state = optimizer.update({"w": scaled}, optimizer.init(params), params)
    exact = {"w": scaled.astype(jnp.float32) / 2.0**15}
    wanted, wanted_state = plain.update(exact, plain.init(params), params)
    for a, b in zip(
        jax.tree.leaves((updates, state.inner_state)),
        jax.tree.leaves((wanted, wanted_state)),
        strict=True,
    ):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_unscaling_keeps_what_float16_would_lose():
    # 2^-20 / 2^15 is far below the smallest float16.
    optimizer = optim.dynamic_loss_scaling(optax.sgd(1.0), initial_scale=2.0**15)
    grads = _grads(2.0**-20, jnp.float16)
    for params in (_params(), None):
        updates, _ = optimizer.update(grads, optimizer.init(_params()), params)
        assert updates["bias"].dtype == jnp.float32
        assert float(updates["bias"][0]) == -(2.0**-35)


def test_scaling_saves_small_float16_gradients_and_without_it_they_vanish():
    def loss(params, state):
        weight = params["w"].astype(jnp.float16)
        return optim.scale_loss(weight * jnp.float16(2.0**-13) * jnp.float16(2.0**-13), state)

    params = {"w": jnp.float32(1.0)}
    plain, scaled = optax.sgd(1.0), optim.dynamic_loss_scaling(optax.sgd(1.0))
    moved = []
    for optimizer in (plain, scaled):
        state = optimizer.init(params)
        updates, _ = optimizer.update(jax.grad(loss)(params, state), state, params)
        moved.append(float(updates["w"]))
    assert moved == [0.0, -(2.0**-26)]


def test_the_loss_is_scaled_in_float32():
    optimizer = optax.chain(
        optim.dynamic_loss_scaling(optax.sgd(0.1), initial_scale=2.0**17), optax.scale(1.0)
    )
    params = {"w": jnp.float32(1.0)}
    state = optimizer.init(params)
    for dtype in (jnp.float16, jnp.bfloat16, jnp.float32):
        scaled = optim.scale_loss(jnp.asarray(3.0, dtype), state)
        assert scaled.dtype == jnp.float32 and float(scaled) == 3 * 2.0**17
    assert float(optim.scale_loss(jnp.float16(3.0), optax.sgd(0.1).init(params))) == 3.0


def test_two_scales_in_one_state_are_refused():
    inner = optim.dynamic_loss_scaling(optax.sgd(0.1))
    state = optim.dynamic_loss_scaling(inner).init(_params())
    with pytest.raises(KeyError, match="loss_scale"):
        optim.scale_loss(jnp.float32(1.0), state)


def test_extra_arguments_reach_the_inner_transformation():
    def update(updates, state, params=None, *, value, **extra_args):
        return jax.tree.map(lambda u: u * value, updates), state

    inner = optax.GradientTransformationExtraArgs(lambda params: (), update)
    optimizer = optim.dynamic_loss_scaling(inner, initial_scale=1.0)
    state = optimizer.init(_params())
    updates, _ = optimizer.update(_grads(2.0), state, _params(), value=jnp.float32(3.0))
    assert float(updates["bias"][0]) == 6.0


def test_no_parameters_at_all():
    optimizer = optim.dynamic_loss_scaling(optax.sgd(1.0))
    updates, state = optimizer.update({}, optimizer.init({}), {})
    assert updates == {} and state.ran


# --- devices ---


def _train(update, params, state, data):
    """Steps on rows of `data`; the sixth row overflows in one device's share only."""
    for row in data:
        params, state = update(params, state, row)
    return params, state


def _data(rng):
    data = rng.standard_normal((10, 16)).astype(np.float32)
    data[5, 9] = np.inf
    return data


def _loss(params, state, row):
    loss = jnp.mean((params["kernel"].sum() - row) ** 2 + params["bias"] * row)
    return optim.scale_loss(loss, state)


def _step(optimizer, average):
    def step(params, state, row):
        grads = average(jax.grad(_loss)(params, state, row))
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step


def _mesh():
    return jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))


@pytest.mark.parametrize("how", ["shard_map", "jit"])
def test_eight_devices_decide_as_one(loose_promotion, rng, how):
    optimizer = optim.dynamic_loss_scaling(_adam(), initial_scale=4.0, growth_interval=3)
    mesh, data = _mesh(), _data(rng)
    whole, split = PartitionSpec(), PartitionSpec("data")
    if how == "shard_map":

        def average(grads):
            # Under check_vma the gradient of replicated parameters is summed over devices already.
            return jax.tree.map(lambda g: g / 8, grads)

        step = jax.shard_map(
            _step(optimizer, average),
            mesh=mesh,
            in_specs=(whole, whole, split),
            out_specs=(whole, whole),
            check_vma=True,
        )
        step = jax.jit(step, donate_argnums=(0, 1))
    else:
        replicated = NamedSharding(mesh, whole)
        step = jax.jit(
            _step(optimizer, lambda grads: grads),
            in_shardings=(replicated, replicated, NamedSharding(mesh, split)),
            out_shardings=(replicated, replicated),
            donate_argnums=(0, 1),
        )
    one = jax.jit(_step(optimizer, lambda grads: grads))
    wanted = _train(one, _params(), optimizer.init(_params()), data)
    params, state = _train(step, _params(), optimizer.init(_params()), data)
    assert int(state.skipped) == int(wanted[1].skipped) == 1
    assert float(state.loss_scale) == float(wanted[1].loss_scale) != 4.0
    assert len(state.ran.sharding.device_set) == 8
    for a, b in zip(jax.tree.leaves((params, state)), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


# --- wrong arguments ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"growth_factor": 1.0}, "growth_factor=1.0 must be above 1"),
        ({"growth_factor": float("nan")}, "growth_factor=nan"),
        ({"backoff_factor": 1.0}, "backoff_factor=1.0 must be below 1"),
        ({"backoff_factor": 0.0}, "backoff_factor=0.0 must be above 0"),
        ({"min_scale": 0.0}, "min_scale=0.0 must be above 0"),
        ({"initial_scale": 0.5}, "initial_scale=0.5 must be at least min_scale=1.0"),
        ({"initial_scale": 9.0, "max_scale": 8.0}, "initial_scale=9.0 must be at most max_scale="),
        ({"max_scale": float("inf")}, "max_scale=inf must be finite"),
        ({"growth_interval": 0}, "growth_interval=0 must be at least 1"),
        ({"hysteresis": 0}, "hysteresis=0 must be at least 1"),
    ],
)
def test_wrong_arguments_are_refused_at_construction(arguments, message):
    with pytest.raises(ValueError, match=message):
        optim.dynamic_loss_scaling(optax.sgd(0.1), **arguments)


def test_integer_parameters_are_refused_with_their_path():
    params = {"layers": [{"table": jnp.zeros(3, jnp.int32)}]}
    optimizer = optim.dynamic_loss_scaling(optax.identity())
    with pytest.raises(ValueError, match="'layers/0/table' of dtype int32 must be .* floating"):
        optimizer.init(params)
