"""A fixed number of steps as one function that JAX can differentiate."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from deepaudio.simulation._bodies import Bodies
from deepaudio.simulation._integrators import Integrator, Leapfrog, check_settings
from deepaudio.simulation._laws import Law, check_system


class Trajectory(NamedTuple):
    """Where bodies were at S times.

    Attributes:
        times: (S,), from the start.
        positions: (S, N, 3).
        velocities: (S, N, 3).
    """

    times: jax.Array
    positions: jax.Array
    velocities: jax.Array


def integrate(
    bodies: Bodies,
    law: Law,
    *,
    steps: int,
    integrator: Integrator | None = None,
    dt: float | jax.Array | None = None,
    eta: float | None = None,
    save_every: int = 1,
    checkpoint: bool = False,
) -> Trajectory:
    """Takes a number of steps and tells where the bodies were; `jax.grad` goes through it.

    Steps of a chosen length are constants to derivatives: a gradient is that of the positions at
    the times of the trajectory.

    Args:
        bodies: The bodies at the start.
        law: The force law.
        steps: How many steps to take, a multiple of `save_every`.
        integrator: How; None for leapfrog.
        dt: Length of every step, above 0. Either this or `eta` is given.
        eta: Accuracy from which the integrator chooses every step's length, above 0; about 0.02.
        save_every: Steps from one time of the trajectory to the next.
        checkpoint: Whether derivatives keep only the states at those times and take the steps
            between once more, which saves memory.

    Returns:
        The trajectory, `steps / save_every` times; the start is not among them.

    Raises:
        ValueError: An argument is out of its range.
    """
    integrator = Leapfrog() if integrator is None else integrator
    check_system(bodies, law)
    if steps < 1 or save_every < 1 or steps % save_every:
        raise ValueError(f"{steps=} must be above 0 and a multiple of {save_every=}")
    check_settings(law, integrator, dt=dt, eta=eta)
    return _integrate(bodies, law, integrator, dt, eta, steps // save_every, save_every, checkpoint)


@functools.partial(
    jax.jit, static_argnames=("law", "integrator", "blocks", "save_every", "checkpoint")
)
def _integrate(bodies, law, integrator, dt, eta, blocks, save_every, checkpoint):
    dtype = bodies.positions.dtype
    dt, eta = (None if value is None else jnp.asarray(value, dtype) for value in (dt, eta))
    bodies = Bodies(*(None if array is None else jnp.asarray(array) for array in bodies))

    def step(carry, _):
        state, time = carry
        size = dt
        if eta is not None:
            size = jax.lax.stop_gradient(integrator.wanted_step(state, law, eta=eta))
        return (integrator.step(state, law, size, eta=eta), time + size), None

    def block(carry, _):
        (state, time), _ = jax.lax.scan(step, carry, length=save_every)
        now = Trajectory(time, state.bodies.positions, state.bodies.velocities)
        return (state, time), now

    start = integrator.start(bodies, law, eta=eta), jnp.zeros((), dtype)
    return jax.lax.scan(jax.checkpoint(block) if checkpoint else block, start, length=blocks)[1]
