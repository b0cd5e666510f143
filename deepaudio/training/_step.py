"""The train state and the one sharded step."""

from collections.abc import Callable
from typing import Any, Protocol

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


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


def data_mesh() -> Mesh:
    """A mesh of all devices with the one axis `data`."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


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
    task: Task, optimizer: optax.GradientTransformation, mesh: Mesh, *, average_decay: float
) -> Callable[[TrainState, Any], tuple[TrainState, dict[str, jax.Array]]]:
    """Compiles the step: the batch is split over the mesh, the state is on every device.

    Under `jit` the program means the same as on one device, so means over the batch, batch norm's
    too, are means over all devices.

    Args:
        task: Gives the loss.
        optimizer: From gradients to updates.
        mesh: With an axis `data`.
        average_decay: Of the moving average at most; it grows with the step so that the first
            steps are forgotten.

    Returns:
        A function from the state and a batch (numpy arrays, the first axis divisible by the
        devices) to the new state and scalar metrics on the device. The state is donated.
    """
    replicated = NamedSharding(mesh, PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec("data"))

    def step(state: TrainState, batch: Any):
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        gradient = jax.value_and_grad(task.loss, has_aux=True)
        (_, (metrics, model_state)), grads = gradient(state.params, state.model_state, batch, key)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {**metrics, "gradient_norm": optax.tree.norm(grads)}
        state = state.replace(
            step=state.step + 1,
            params=params,
            model_state=model_state,
            opt_state=opt_state,
            average=_average(
                state.average, {"params": params, **model_state}, state.step, average_decay
            ),
        )
        return state, metrics

    compiled = jax.jit(
        step,
        in_shardings=(replicated, split),
        out_shardings=(replicated, replicated),
        donate_argnums=0,
    )

    def run(state: TrainState, batch: Any):
        size = len(jax.tree.leaves(batch)[0])
        if size * jax.process_count() % mesh.size:
            raise ValueError(f"batch of {size} must be divisible by {mesh.size} devices")
        return compiled(state, _to_devices(batch, split))

    return run


def _average(average: Any, variables: Any, step: jax.Array, decay: float) -> Any:
    """Moving average whose horizon is at most a tenth of the steps done."""
    done = step.astype(jnp.float32)
    rate = jnp.maximum(1.0 - decay, 1.0 - (1.0 + done) / (10.0 + done))
    return jax.tree.map(lambda a, v: a + rate * (v - a), average, variables)


def _to_devices(batch: Any, sharding: NamedSharding) -> Any:
    """Each process gives its part of the batch."""
    return jax.tree.map(
        lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(leaf)), batch
    )
