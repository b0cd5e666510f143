"""One of two processes that share bodies; see test_ring.py.

python _ring_process.py COORDINATOR COUNT NUMBER OUTPUT
"""

import functools
import sys

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from deepaudio.kernels import nbody

BODIES = 192


def bodies():
    """Positions, velocities and masses, float32."""
    rng = np.random.default_rng(5)
    draw = functools.partial(rng.normal, 0, 1)
    arrays = draw((BODIES, 3)), draw((BODIES, 3)), rng.uniform(0.5, 1.0, BODIES) / BODIES
    return tuple(array.astype(np.float32) for array in arrays)


def sharded(function, outputs):
    """A function of arrays of bodies, over all devices there are."""
    mesh = Mesh(np.array(jax.devices()), ("bodies",))
    split = PartitionSpec("bodies")
    run = jax.shard_map(function, mesh=mesh, in_specs=split, out_specs=(split,) * outputs)
    place = NamedSharding(mesh, split)
    return jax.jit(run), lambda array: jax.make_array_from_callback(
        array.shape, place, lambda index: array[index]
    )


def accelerations_and_jerks(positions, velocities, masses):
    """Of this device's bodies."""
    return nbody.gravity_and_jerk(positions, velocities, masses, softening=0.1, axis_name="bodies")


def main():
    """Joins the other, computes, and has process 0 write what came out."""
    coordinator, count, number, output = sys.argv[1:]
    jax.config.update("jax_num_cpu_devices", 2)
    jax.distributed.initialize(coordinator, int(count), int(number))
    run, place = sharded(accelerations_and_jerks, 2)
    found = run(*(place(array) for array in bodies()))
    mesh = found[0].sharding.mesh
    whole = jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, PartitionSpec()))(found)
    if jax.process_index() == 0:
        np.savez(output, *(np.asarray(array) for array in whole))
    jax.distributed.shutdown()


if __name__ == "__main__":
    main()
