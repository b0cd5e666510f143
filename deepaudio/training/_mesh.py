"""Devices as a mesh, and what of a run lies on which of them."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

# Smaller leaves are copied to every device: gathering them would cost more than they take.
_SMALLEST_SHARDED = 2**14


def data_mesh(model: int = 1) -> Mesh:
    """A mesh of all devices with the axes `data` and `model`.

    Every device computes on its own part of the batch, whichever axis it lies on. Along `model`
    the devices also share out the parameters and the optimizer's state, which are gathered where
    they are needed (Rajbhandari et al. 2020, arXiv 1910.02054, stage 3).

    Args:
        model: Devices that share one copy of the state; 1 gives every device its own.

    Returns:
        A mesh of shape (devices / model, model).

    Raises:
        ValueError: `model` does not divide the number of devices.
    """
    count = jax.device_count()
    if model < 1 or count % model:
        raise ValueError(f"{model=} must divide the {count} devices")
    # Axes for the compiler to shard over as it sees fit, as `jit` needs them.
    return jax.make_mesh(
        (count // model, model), ("data", "model"), axis_types=(AxisType.Auto, AxisType.Auto)
    )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis over all of the mesh's axes."""
    return NamedSharding(mesh, PartitionSpec(mesh.axis_names))


def state_sharding(state: Any, mesh: Mesh, *, smallest: int = _SMALLEST_SHARDED) -> Any:
    """Where the leaves of a state lie.

    Args:
        state: A tree of arrays, or of anything with a shape.
        mesh: With an axis `data`, and perhaps `model`.
        smallest: Leaves of fewer elements are on every device.

    Returns:
        A tree of shardings: each leaf is split over `model` along its longest axis that this
        divides, and is otherwise on every device.
    """
    count = mesh.shape.get("model", 1)

    def place(leaf):
        divisible = [size if size % count == 0 else 0 for size in leaf.shape]
        if count == 1 or np.prod(leaf.shape) < smallest or not any(divisible):
            return NamedSharding(mesh, PartitionSpec())
        axes: list[str | None] = [None] * len(divisible)
        axes[int(np.argmax(divisible))] = "model"
        return NamedSharding(mesh, PartitionSpec(*axes))

    return jax.tree.map(place, state)


def place_state(state: Any, mesh: Mesh) -> Any:
    """Puts a state, the same in every process, onto the mesh as `state_sharding` says."""
    return jax.device_put(state, state_sharding(state, mesh))


def place_batch(batch: Any, mesh: Mesh) -> Any:
    """Puts a batch onto the mesh; each process gives its part of it, numpy arrays.

    Raises:
        ValueError: The mesh does not divide the batch.
    """
    size = len(jax.tree.leaves(batch)[0])
    if size * jax.process_count() % mesh.size:
        raise ValueError(f"batch of {size} must be divisible by {mesh.size} devices")
    sharding = batch_sharding(mesh)
    return jax.tree.map(
        lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(leaf)), batch
    )
