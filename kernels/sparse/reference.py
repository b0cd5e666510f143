"""The product in plain XLA: what CPUs, TPUs and older GPUs run; the kernel is held against it.

All lanes take a step together, so that one loop over lanes does everything with a value, a delta
and a gathered element of the vector in registers; XLA on a CPU makes vector code of it. Lanes' sums
are then gathered by output.
"""

import jax
import jax.numpy as jnp

from deepaudio.kernels.sparse._format import PackedMatrix


@jax.jit
def matvec(packed: PackedMatrix, vectors: jax.Array) -> jax.Array:
    """Multiplies vectors with a packed matrix.

    Args:
        packed: (inputs, outputs).
        vectors: (batch, inputs) float32.

    Returns:
        (batch, outputs) float32.
    """
    return jnp.stack([_multiply(packed, vector) for vector in vectors])


def _multiply(packed, vector):
    values, deltas = packed.values, packed.deltas
    place = 256 * packed.pages.astype(jnp.int32)
    sums = jnp.zeros(place.shape, jnp.float32)
    for step in range(values.shape[1]):
        place = place + deltas[:, step].astype(jnp.int32)
        sums = sums + values[:, step].astype(jnp.float32) * _take(vector, place)
    # Otherwise the sums would be computed again for every one that is gathered; and the loop over
    # lanes would flatten them, and be no vector code any more.
    sums = jax.lax.optimization_barrier(sums).reshape(-1)
    first, count = (array[: packed.outputs] for array in (packed.first_lanes, packed.num_lanes))
    number = jnp.arange(packed.most_lanes, dtype=jnp.int32)[:, None]
    # Beyond an output's own lanes: any that exists, and counts for nothing.
    lane = jnp.minimum(first[None] + number, sums.size - 1)
    return jnp.where(number < count[None], _take(sums, lane), 0.0).sum(axis=0)


def _take(array, index):
    # Packed indices are inside; a check would double the work of a gather.
    return array.at[index].get(mode="promise_in_bounds")
