"""The train state and the one sharded step."""

from collections.abc import Callable
from typing import Any, Protocol

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from deepaudio import optim
from deepaudio.training._mesh import batch_sharding, place_batch, state_sharding


class Task(Protocol):
    """What the step needs to know of a task."""

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Draws `{"params": …}` and the other collections."""

    def loss(self, params: Any, model_state: Any, batch: Any, key: jax.Array) -> Any:
        """Returns the loss, and (its parts by name, the new model state)."""


class TrainState(flax.struct.PyTreeNode):
    """All that a run is, apart from where its data stand.

    Attributes:
        step: () int32, steps done.
        params: Parameters.
        model_state: The model's other collections, such as batch statistics.
        opt_state: The optimizer's state.
        average: Exponential moving average of `params` and `model_state`, for evaluation.
        key: From which the key of every step is folded.
    """

    step: jax.Array
    params: Any
    model_state: Any
    opt_state: Any
    average: dict[str, Any]
    key: jax.Array


def init_state(task: Task, optimizer: optax.GradientTransformation, seed: int) -> TrainState:
    """The state before the first step.

    Args:
        task: Draws the variables.
        optimizer: Draws its state.
        seed: Of everything random.
    """
    init_key, step_key = jax.random.split(jax.random.key(seed))
    variables = task.init(init_key)
    params = variables["params"]
    model_state = {name: value for name, value in variables.items() if name != "params"}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        model_state=model_state,
        opt_state=optimizer.init(params),
        # Copies: the state is donated, and one buffer cannot be given away twice.
        average=jax.tree.map(jnp.copy, variables),
        key=jax.random.key_data(step_key),
    )


def warm_start(state: TrainState, variables: dict[str, Any]) -> TrainState:
    """Replaces what has the same name and shape in other variables; the rest stays as drawn.

    Args:
        state: The state before the first step.
        variables: `{"params": …, "batch_stats": …}` of a similar model.

    Returns:
        The state.

    Raises:
        ValueError: Nothing fits.
    """
    given = {
        jax.tree_util.keystr(path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
    }
    taken = []

    def take(path, leaf):
        other = given.get(jax.tree_util.keystr(path))
        if other is None or other.shape != leaf.shape:
            return leaf
        taken.append(path)
        return jnp.asarray(other, leaf.dtype)

    fresh = {"params": state.params, **state.model_state}
    started = jax.tree_util.tree_map_with_path(take, fresh)
    if not taken:
        raise ValueError("no tensor of the weights to begin from has a place in this model")
    params = started["params"]
    model_state = {name: value for name, value in started.items() if name != "params"}
    average = jax.tree.map(jnp.copy, started)
    return state.replace(params=params, model_state=model_state, average=average)


def make_train_step(
    task: Task,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    average_decay: float,
    accumulate: int = 1,
) -> Callable[[TrainState, Any], tuple[TrainState, dict[str, jax.Array]]]:
    """Compiles the step: the batch is split over the mesh, the state lies as `state_sharding` says.

    Under `jit` the program means the same as on one device, so means over the batch, batch norm's
    too, are means over all devices. If the optimizer scales the loss
    (`optim.dynamic_loss_scaling`), a step whose gradients overflow changes nothing but the step's
    number, the scale and its counters: not the parameters, their average, or the model's state.

    Args:
        task: Gives the loss.
        optimizer: From gradients to updates.
        mesh: With an axis `data`, and perhaps `model`.
        average_decay: Of the moving average at most; it grows with the step so that the first
            steps are forgotten. Weights that a mask in the optimizer's state holds at zero are
            zero in the average too.
        accumulate: Parts that the batch is gone through in, one after another: gradients and
            metrics are means over the parts, and batch norm's statistics those of a part.

    Returns:
        A function from the state and a batch (numpy arrays, the first axis divisible by
        `accumulate` times the devices) to the new state and scalar metrics on the device:
        the task's own, the `gradient_norm` (unscaled, before clipping), and with loss scaling
        `loss_scale` and `ran` (1 or 0). The state is donated.

    Raises:
        ValueError: `accumulate` is not positive.
    """
    if accumulate < 1:
        raise ValueError(f"{accumulate=} must be at least 1")

    def step(state: TrainState, batch: Any):
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        scale = optax.tree.get(state.opt_state, "loss_scale", None)
        grads, metrics, model_state = _gradients(task, state, batch, key, accumulate, mesh)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        variables = {"params": params, **model_state}
        average = _average(state.average, variables, state.step, average_decay)
        average["params"] = optim.apply_masks(average["params"], opt_state)
        norm = optax.tree.norm(grads)
        if scale is not None:
            # What the forward pass of a skipped step has seen may be infinite.
            ran = optax.tree.get(opt_state, "ran")
            model_state = _choose(ran, model_state, state.model_state)
            average = _choose(ran, average, state.average)
            norm = norm / scale
            metrics = {**metrics, "loss_scale": scale, "ran": ran.astype(jnp.float32)}
        state = state.replace(
            step=state.step + 1,
            params=params,
            model_state=model_state,
            opt_state=opt_state,
            average=average,
        )
        return state, {**metrics, "gradient_norm": norm}

    compiled = None

    def run(state: TrainState, batch: Any):
        nonlocal compiled
        if compiled is None:
            placed = state_sharding(state, mesh)
            compiled = jax.jit(
                step,
                in_shardings=(placed, batch_sharding(mesh)),
                out_shardings=(placed, NamedSharding(mesh, PartitionSpec())),
                donate_argnums=0,
            )
        _check_divides(batch, accumulate)
        return compiled(state, place_batch(batch, mesh))

    return run


def _gradients(task, state, batch, key, accumulate, mesh):
    """Gradients of the scaled loss, metrics and the new model state."""

    def loss(params, model_state, part, key):
        value, (metrics, model_state) = task.loss(params, model_state, part, key)
        return optim.scale_loss(value, state.opt_state), (metrics, model_state)

    gradient = jax.grad(loss, has_aux=True)
    if accumulate == 1:
        grads, (metrics, model_state) = gradient(state.params, state.model_state, batch, key)
        return grads, metrics, model_state

    def one(carry, numbered):
        number, part = numbered
        total, model_state = carry
        key_of_part = jax.random.fold_in(key, number)
        grads, (metrics, model_state) = gradient(state.params, model_state, part, key_of_part)
        return (jax.tree.map(jnp.add, total, grads), model_state), metrics

    zeros = jax.tree.map(jnp.zeros_like, state.params)
    numbered = (jnp.arange(accumulate), _parts(batch, accumulate, mesh))
    (total, model_state), metrics = jax.lax.scan(one, (zeros, state.model_state), numbered)
    mean = jax.tree.map(lambda leaf: leaf / accumulate, total)
    return mean, jax.tree.map(lambda leaf: leaf.mean(axis=0), metrics), model_state


def _parts(batch, accumulate, mesh):
    """The batch as (accumulate, examples, ...), so that every device keeps its own examples."""
    sharding = NamedSharding(mesh, PartitionSpec(None, mesh.axis_names))

    def split(leaf):
        parts = leaf.reshape(-1, accumulate, *leaf.shape[1:]).swapaxes(0, 1)
        return jax.lax.with_sharding_constraint(parts, sharding)

    return jax.tree.map(split, batch)


def _check_divides(batch, accumulate):
    size = len(jax.tree.leaves(batch)[0])
    if size % accumulate:
        raise ValueError(f"batch of {size} must be divisible by {accumulate=}")


def _choose(condition, new, old):
    return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)


def _average(average: Any, variables: Any, step: jax.Array, decay: float) -> Any:
    """Moving average whose horizon is at most a tenth of the steps done."""
    done = step.astype(jnp.float32)
    rate = jnp.maximum(1.0 - decay, 1.0 - (1.0 + done) / (10.0 + done))
    return jax.tree.map(lambda a, v: a + rate * (v - a), average, variables)
