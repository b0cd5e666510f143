"""Chains of all the transformations: against doing it by hand, and within optax's wrappers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from jax.sharding import AxisType, PartitionSpec

from deepaudio import optim

# Times count the updates that run: dense to 3, sparse to 7, dense again; pruning takes masks at
# 10, 12, 14 and 16. The overflows come just when masks are due.
DENSE, SPARSE, SPARSITY, REDENSE_SCALE = 3, 4, 0.3, 0.5
START, RAMP, END, FREQUENCY, THETA = 8, 12, 17, 2, 0.04
CLIP, RATE, DECAY = 1.0, 0.05, 0.1
SCALE, INTERVAL = 64.0, 3
STEPS, OVERFLOWS = 22, (3, 4, 12)


@pytest.fixture(autouse=True)
def loose_promotion():
    """optax's Adam raises a float to an integer power, which strict promotion forbids."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def _draw(seed, count=None):
    rng = np.random.default_rng(seed)
    shapes = {
        "recurrent": {"kernel": (5, 6)},
        "dense": {"kernel": (6, 4), "bias": (4,)},
    }

    def draw(shape):
        full = shape if count is None else (count, *shape)
        return rng.standard_normal(full).astype(np.float32)

    return jax.tree.map(draw, shapes, is_leaf=lambda node: isinstance(node, tuple))


def _start():
    return jax.tree.map(lambda leaf: jnp.asarray(0.3 * leaf), _draw(0))


def _gradients():
    """(steps, ...) of each leaf: some above and some below the clipping norm."""
    size = np.linspace(0.05, 0.4, STEPS, dtype=np.float32)
    return jax.tree.map(lambda g: g * size.reshape(-1, *[1] * (g.ndim - 1)), _draw(1, STEPS))


def _overflows(steps=STEPS):
    return np.isin(np.arange(steps), OVERFLOWS)


def _rule(name):
    return {
        "adam": lambda: optax.adam(RATE),
        "adamw": lambda: optax.adamw(RATE, weight_decay=DECAY),
        "momentum": lambda: optax.sgd(RATE, momentum=0.9),
    }[name]()


def _sparsity(**pruning):
    return (
        optim.dense_sparse_dense(
            dense_steps=DENSE, sparse_steps=SPARSE, sparsity=SPARSITY, redense_scale=REDENSE_SCALE
        ),
        optim.gradual_pruning(
            start=START, ramp=RAMP, end=END, frequency=FREQUENCY, theta=THETA, **pruning
        ),
    )


def _chain(rule="adam", **pruning):
    return optax.chain(optax.clip_by_global_norm(CLIP), _rule(rule), *_sparsity(**pruning))


def _scaled(inner):
    return optim.dynamic_loss_scaling(inner, initial_scale=SCALE, growth_interval=INTERVAL)


def _poisoned(grads, overflow, state):
    """Gradients as of a scaled loss, one number of them infinite in case of overflow."""
    scale = optax.tree.get(state, "loss_scale", 1.0)
    grads = jax.tree.map(lambda g: g * scale, grads)
    grads["recurrent"]["kernel"] = jnp.where(overflow, jnp.inf, grads["recurrent"]["kernel"])
    return grads


def _run(optimizer, start, gradients, overflows):
    """All steps in one compiled program; returns parameters after each, and the last state."""

    @jax.jit
    def run(params, gradients, overflows):
        def step(carry, inputs):
            params, state = carry
            updates, state = optimizer.update(_poisoned(*inputs, state), state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), params

        carry, trajectory = jax.lax.scan(
            step, (params, optimizer.init(params)), (gradients, overflows)
        )
        return trajectory, carry[1]

    return run(start, gradients, overflows)


class ByHand:
    """The same chain in numpy, leaf by leaf; `without` leaves parts of it out."""

    def __init__(self, params, rule, without=()):
        self.params = {k: np.array(v) for k, v in _flat(params).items()}
        self.rule, self.without, self.count = rule, without, 0
        self.first = {k: np.zeros_like(v) for k, v in self.params.items()}
        self.second = {k: np.zeros_like(v) for k, v in self.params.items()}
        self.held = {k: np.ones(v.shape, bool) for k, v in self.params.items()}
        self.pruned = {k: np.ones(v.shape, bool) for k, v in self.params.items()}

    def step(self, grads, overflow):
        if overflow and "scaling" not in self.without:
            return
        grads = _flat(grads)
        norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in grads.values()))
        if norm > CLIP and "clip" not in self.without:
            grads = {k: g * np.float32(CLIP / norm) for k, g in grads.items()}
        for name, weight in self.params.items():
            update = self.direction(name, grads[name], weight)
            if "dsd" not in self.without:
                update = self.dense_sparse_dense(name, update, weight)
            if "pruning" not in self.without:
                update = self.prune(name, update, weight)
            self.params[name] = weight + update
        self.count += 1

    def direction(self, name, grad, weight):
        if self.rule == "momentum":
            self.first[name] = grad + np.float32(0.9) * self.first[name]
            return -np.float32(RATE) * self.first[name]
        self.first[name] = 0.9 * self.first[name] + 0.1 * grad
        self.second[name] = 0.999 * self.second[name] + 0.001 * grad**2
        mean = self.first[name] / (1 - 0.9 ** (self.count + 1))
        square = self.second[name] / (1 - 0.999 ** (self.count + 1))
        decay = DECAY * weight if self.rule == "adamw" else 0.0
        return np.float32(-RATE) * (mean / (np.sqrt(square) + 1e-8) + decay).astype(np.float32)

    def dense_sparse_dense(self, name, update, weight):
        if self.count >= DENSE + SPARSE:
            return np.float32(REDENSE_SCALE) * update
        if self.count < DENSE or weight.ndim < 2:
            return update
        if self.count == DENSE:
            order = np.argsort(np.abs(weight), axis=None, kind="stable")
            dropped = order[: round(SPARSITY * weight.size)]
            self.held[name] = ~np.isin(np.arange(weight.size), dropped).reshape(weight.shape)
        return np.where(self.held[name], update, -weight)

    def prune(self, name, update, weight):
        if weight.ndim < 2:
            return update
        step = self.count
        if START < step < END and step % FREQUENCY == 0:
            if step < RAMP:
                threshold = THETA * (step - START + 1) / FREQUENCY
            else:
                threshold = THETA * (RAMP - START + 1) + 1.5 * THETA * (step - RAMP + 1)
                threshold /= FREQUENCY
            self.pruned[name] &= np.abs(weight) > threshold
        return np.where(self.pruned[name], update, -weight)


def _flat(tree):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _by_hand(rule, without=()):
    hand, gradients, trajectory = ByHand(_start(), rule, without), _gradients(), []
    for number, overflow in enumerate(_overflows()):
        hand.step(jax.tree.map(lambda g, n=number: g[n], gradients), overflow)
        trajectory.append(dict(hand.params))
    return {k: np.stack([params[k] for params in trajectory]) for k in hand.params}


def _assert_close(trajectory, wanted, rtol=2e-5):
    trajectory, wanted = _flat(trajectory), _flat(wanted)
    assert trajectory.keys() == wanted.keys()
    for name, found in trajectory.items():
        np.testing.assert_allclose(found, wanted[name], rtol=rtol, atol=1e-5, err_msg=name)
        np.testing.assert_array_equal(found == 0, wanted[name] == 0, err_msg=name)


def _assert_same(a, b):
    """Equal bit for bit."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


@pytest.fixture(scope="module")
def whole():
    """Parameters after each step of the whole chain with Adam, and its last state."""
    with jax.numpy_dtype_promotion("standard"):
        return _run(_scaled(_chain()), _start(), _gradients(), _overflows())


# --- against doing it by hand ---


def test_the_whole_chain_by_hand(whole):
    trajectory, state = whole
    _assert_close(trajectory, _by_hand("adam"))
    assert int(state.skipped) == len(OVERFLOWS)
    # Three good steps, two falls, twice three good steps, a fall, three times three good steps.
    assert float(state.loss_scale) == SCALE * 2 / 4 * 4 / 2 * 8
    # The phases were really gone through: dense, sparse, dense, pruned.
    zeros = (np.asarray(trajectory["recurrent"]["kernel"]) == 0).mean(axis=(1, 2))
    sparse, lifted, pruned = (count + 2 for count in (DENSE, DENSE + SPARSE, 10))
    assert not zeros[:sparse].any() and not zeros[lifted : pruned + 1].any()
    np.testing.assert_allclose(zeros[sparse:lifted], SPARSITY)
    assert zeros[-1] > 0.3


@pytest.mark.parametrize("rule", ["adamw", "momentum"])
def test_other_rules_by_hand(rule):
    trajectory, _ = _run(_scaled(_chain(rule)), _start(), _gradients(), _overflows())
    _assert_close(trajectory, _by_hand(rule))


@pytest.mark.parametrize("part", ["scaling", "clip", "dsd", "pruning"])
def test_each_part_does_something(whole, part):
    with pytest.raises(AssertionError):
        _assert_close(whole[0], _by_hand("adam", without=(part,)))


def test_without_loss_scaling():
    trajectory, _ = _run(_chain("momentum"), _start(), _gradients(), np.zeros(STEPS, bool))
    hand = ByHand(_start(), "momentum")
    for number in range(STEPS):
        hand.step(jax.tree.map(lambda g, n=number: g[n], _gradients()), False)
    last = jax.tree.map(lambda leaf: leaf[-1], trajectory)
    _assert_close(last, hand.params)


# --- optax's wrappers ---


def _halves(gradients):
    """Each gradient as two of which it is the mean."""
    return jax.tree.map(
        lambda g: np.stack([0.5 * g, 1.5 * g], axis=1).reshape(-1, *g.shape[1:]), gradients
    )


def _without_overflows(tree):
    return jax.tree.map(lambda leaf: leaf[~_overflows()], tree)


def test_multi_steps_within_loss_scaling(whole):
    """A part of a batch that overflows is left out, and the next takes its place."""
    optimizer = _scaled(optax.MultiSteps(_chain(), 2).gradient_transformation())
    clean = _halves(_without_overflows(_gradients()))
    count, places = len(clean["dense"]["bias"]), (0, 7, 8, 20)
    gradients = jax.tree.map(lambda g: np.insert(g, places, 1.0, axis=0), clean)
    overflows = np.insert(np.zeros(count, bool), places, True)
    trajectory, state = _run(optimizer, _start(), gradients, overflows)
    assert int(state.skipped) == len(places)
    ends = np.flatnonzero(~overflows)[1::2]
    _assert_close(jax.tree.map(lambda leaf: leaf[ends], trajectory), _without_overflows(whole[0]))


def test_multi_steps_around_loss_scaling(whole):
    optimizer = optax.MultiSteps(_scaled(_chain()), 2).gradient_transformation()
    clean = _halves(_without_overflows(_gradients()))
    trajectory, state = _run(
        optimizer, _start(), clean, np.zeros(len(clean["dense"]["bias"]), bool)
    )
    _assert_close(jax.tree.map(lambda leaf: leaf[1::2], trajectory), _without_overflows(whole[0]))
    assert int(optax.tree.get(state, "skipped")) == 0


@pytest.mark.parametrize("outermost", ["masked", "scaling"])
def test_masked(outermost):
    """The chain on a part of the tree is the chain on that part alone."""
    mask = {"recurrent": True, "dense": {"kernel": True, "bias": False}}
    wrap = {
        "masked": lambda: optax.masked(_scaled(_chain("momentum")), mask),
        "scaling": lambda: _scaled(optax.masked(_chain("momentum"), mask)),
    }[outermost]
    start, gradients = _start(), _gradients()
    trajectory, _ = _run(wrap(), start, gradients, _overflows())

    def part(tree):
        return {"recurrent": tree["recurrent"], "dense": {"kernel": tree["dense"]["kernel"]}}

    alone, _ = _run(_scaled(_chain("momentum")), part(start), part(gradients), _overflows())
    _assert_close(part(trajectory), alone)


def test_masked_integers_are_left_alone():
    params = {"kernel": jnp.ones((2, 2)), "table": jnp.arange(3)}
    mask = {"kernel": True, "table": False}
    optimizer = optax.masked(_scaled(_chain()), mask)
    grads = {"kernel": jnp.ones((2, 2)), "table": jnp.zeros(3, jax.dtypes.float0)}
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    assert updates["table"] is grads["table"] and np.all(updates["kernel"])


def _scheduled(learning_rate):
    return optax.chain(
        optax.clip_by_global_norm(CLIP), optax.sgd(learning_rate, momentum=0.9), *_sparsity()
    )


def test_injected_hyperparameters_within():
    """A schedule, injected or not, stands still on a skipped step."""
    schedule = optax.linear_schedule(RATE, 0.0, STEPS)
    injected = _scaled(optax.inject_hyperparams(_scheduled)(learning_rate=schedule))
    plain = _scaled(_scheduled(schedule))
    found, state = _run(injected, _start(), _gradients(), _overflows())
    wanted, _ = _run(plain, _start(), _gradients(), _overflows())
    _assert_close(found, wanted)
    assert int(state.inner_state.count) == STEPS - len(OVERFLOWS)
    assert float(state.inner_state.hyperparams["learning_rate"]) == pytest.approx(
        float(schedule(STEPS - len(OVERFLOWS) - 1))
    )


def test_injected_hyperparameters_of_every_transformation(whole):
    inject = optax.inject_hyperparams
    optimizer = inject(optim.dynamic_loss_scaling)(
        optax.chain(
            optax.clip_by_global_norm(CLIP),
            _rule("adam"),
            inject(optim.dense_sparse_dense, static_args="where")(
                dense_steps=DENSE,
                sparse_steps=SPARSE,
                sparsity=SPARSITY,
                redense_scale=REDENSE_SCALE,
            ),
            inject(optim.gradual_pruning, static_args="where")(
                start=START, ramp=RAMP, end=END, frequency=FREQUENCY, theta=THETA
            ),
        ),
        initial_scale=SCALE,
        growth_interval=INTERVAL,
    )
    trajectory, state = _run(optimizer, _start(), _gradients(), _overflows())
    _assert_close(trajectory, whole[0])
    assert float(optax.tree.get(state, "loss_scale")) == float(whole[1].loss_scale)


# --- donation, devices, checkpoints ---


def _step(optimizer, mean=lambda grads: grads):
    def step(params, state, grads, overflow):
        grads = mean(_poisoned(grads, overflow, state))
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step


def test_donation(whole):
    optimizer = _scaled(_chain())
    step = jax.jit(_step(optimizer), donate_argnums=(0, 1))
    params = _start()
    state = jax.jit(optimizer.init)(params)
    for number, overflow in enumerate(_overflows()):
        # What the last step reported is not read, and so not given.
        given = jax.tree.leaves((params, state._replace(ran=None)))
        grads = jax.tree.map(lambda g, n=number: g[n], _gradients())
        params, state = step(params, state, grads, overflow)
        assert all(leaf.is_deleted() for leaf in given)
        _assert_close(params, jax.tree.map(lambda leaf, n=number: leaf[n], whole[0]))


def test_shard_map_over_eight_devices(whole):
    """Each device has its own gradients, and one alone overflows."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    together, split = PartitionSpec(), PartitionSpec("data")

    def mean(grads):
        return jax.lax.pmean(jax.tree.map(lambda g: g.squeeze(0), grads), "data")

    optimizer = _scaled(_chain())
    step = jax.shard_map(
        _step(optimizer, mean),
        mesh=mesh,
        in_specs=(together, together, split, split),
        out_specs=(together, together),
        check_vma=True,
    )
    step = jax.jit(step, donate_argnums=(0, 1))
    params, state = _start(), optimizer.init(_start())
    share = np.linspace(0.5, 1.5, 8, dtype=np.float32)
    for number, overflow in enumerate(_overflows()):
        grads = jax.tree.map(lambda g, n=number: np.multiply.outer(share, g[n]), _gradients())
        overflows = np.arange(8).reshape(8, 1, 1) == np.where(overflow, 5, -1)
        params, state = step(params, state, grads, overflows)
    _assert_close(params, jax.tree.map(lambda leaf: leaf[-1], whole[0]), rtol=1e-4)
    assert int(state.skipped) == len(OVERFLOWS)
    assert len(params["dense"]["bias"].sharding.device_set) == 8


# Before the first step, dense, after overflows, sparse, dense again, in the midst of pruning,
# and after it.
@pytest.mark.parametrize("regrow", [False, True])
def test_orbax_round_trip_in_every_phase(tmp_path, regrow):
    optimizer = _scaled(_chain("adamw", regrow=regrow))
    step = jax.jit(_step(optimizer))
    gradients = [jax.tree.map(lambda g, n=n: g[n], _gradients()) for n in range(STEPS)]

    def go_on(params, state, numbers):
        for number in numbers:
            params, state = step(params, state, gradients[number], _overflows()[number])
            yield params, state

    params = jax.tree.map(jnp.asarray, _start())
    runs = [(params, optimizer.init(params)), *go_on(params, optimizer.init(params), range(STEPS))]
    with ocp.CheckpointManager(tmp_path) as manager:
        for number in (0, 2, 5, 8, 11, 16, 21):
            manager.save(number, args=ocp.args.StandardSave(runs[number]))
            manager.wait_until_finished()
            abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, runs[0])
            restored = manager.restore(number, args=ocp.args.StandardRestore(abstract))
            _assert_same(restored, runs[number])
            last = [*go_on(*restored, range(number, STEPS))][-1]
            _assert_same(last, runs[-1])
