"""Integrators: how bodies take one step, and how long the next one should be."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from deepaudio.simulation._bodies import Bodies
from deepaudio.simulation._laws import Gravity, Law, norms


class State(NamedTuple):
    """What an integrator carries from step to step.

    Attributes:
        bodies: The bodies.
        accelerations: (N, 3), as last evaluated.
        jerks: (N, 3), as last evaluated; None for leapfrog.
        next_step: (), how long the next step should be; None for leapfrog and for fixed steps.
    """

    bodies: Bodies
    accelerations: jax.Array
    jerks: jax.Array | None = None
    next_step: jax.Array | None = None


class Share(NamedTuple):
    """Which of all bodies this device holds.

    Attributes:
        axis_name: Inside `jax.shard_map`, the axis that bodies are split over.
        is_body: (N,) bool, false for what only fills up the share; None if all are bodies.
    """

    axis_name: str | None = None
    is_body: jax.Array | None = None

    def smallest(self, values: jax.Array) -> jax.Array:
        """The smallest value of all bodies on all devices."""
        if self.is_body is not None:
            values = jnp.where(self.is_body, values, jnp.inf)
        least = jnp.min(values)
        return least if self.axis_name is None else jax.lax.pmin(least, self.axis_name)


ALONE = Share()


@dataclasses.dataclass(frozen=True)
class Leapfrog:
    """Kick, drift, kick: second order, symplectic and reversible while the step is constant.

    For molecular forces it is also known as velocity Verlet. The adaptive step is `eta` times the
    smallest time scale of the law (see `Gravity.time_scales` and `Molecular.time_scales`).
    """

    def start(
        self, bodies: Bodies, law: Law, *, eta: jax.Array | None = None, share: Share = ALONE
    ) -> State:
        """The state before the first step; `eta` is not needed for it."""
        return State(bodies, law.accelerations(bodies, share.axis_name))

    def step(
        self,
        state: State,
        law: Law,
        dt: jax.Array,
        *,
        eta: jax.Array | None = None,
        share: Share = ALONE,
    ) -> State:
        """The state a time `dt` later; one force sum."""
        bodies = state.bodies
        halfway = bodies.velocities + 0.5 * dt * state.accelerations
        bodies = bodies._replace(positions=bodies.positions + dt * halfway, velocities=halfway)
        accelerations = law.accelerations(bodies, share.axis_name)
        bodies = bodies._replace(velocities=halfway + 0.5 * dt * accelerations)
        return State(bodies, accelerations)

    def wanted_step(
        self, state: State, law: Law, *, eta: jax.Array, share: Share = ALONE
    ) -> jax.Array:
        """How long the next step should be, a scalar."""
        return eta * share.smallest(law.time_scales(state.bodies, state.accelerations))


@dataclasses.dataclass(frozen=True)
class Hermite:
    """Fourth-order Hermite scheme (Makino and Aarseth 1992, PASJ 44, 141), for gravity.

    Predicts by the Taylor series, evaluates acceleration and jerk there, and corrects. The
    adaptive step is the smallest over bodies of sqrt(eta (|a| |s| + |j|^2) / (2 |s|^2)), with jerk
    j and snap s, the latter from the interpolation over the last step, and at most twice the last
    step. That is Aarseth's criterion but for its third derivatives, which in float32 are noise that
    shortens steps, which makes more noise. The first step is eta / 2 times the smallest of
    |a| / |j| and sqrt(|potential|) / |a|, for want of a last one.

    Attributes:
        iterations: How often a step evaluates and corrects; 1 is PEC, 2 is P(EC)^2, and so on
            towards the time-symmetric scheme.
    """

    iterations: int = 1

    def __post_init__(self):
        """Checks the number of iterations."""
        if self.iterations < 1:
            raise ValueError(f"iterations must be at least 1, not {self.iterations}")

    def start(
        self, bodies: Bodies, law: Law, *, eta: jax.Array | None = None, share: Share = ALONE
    ) -> State:
        """The state before the first step; with `eta`, which chooses how long that is."""
        accelerations, jerks = law.accelerations_and_jerks(bodies, share.axis_name)
        if eta is None:
            return State(bodies, accelerations, jerks)
        size = norms(accelerations)
        falling = jnp.sqrt(-law.potentials(bodies, share.axis_name)) / size
        first = eta / 2 * share.smallest(jnp.minimum(size / norms(jerks), falling))
        return State(bodies, accelerations, jerks, first)

    def step(
        self,
        state: State,
        law: Law,
        dt: jax.Array,
        *,
        eta: jax.Array | None = None,
        share: Share = ALONE,
    ) -> State:
        """The state a time `dt` later; a sum of forces and jerks for each iteration.

        With `eta` it also tells how long the next step should be.
        """
        before, a0, j0 = state.bodies, state.accelerations, state.jerks
        x0, v0 = before.positions, before.velocities
        velocities = v0 + dt * (a0 + dt / 2 * j0)
        positions = x0 + dt * (v0 + dt / 2 * (a0 + dt / 3 * j0))
        for _ in range(self.iterations):
            bodies = before._replace(positions=positions, velocities=velocities)
            a1, j1 = law.accelerations_and_jerks(bodies, share.axis_name)
            velocities = v0 + dt / 2 * (a0 + a1) + dt * dt / 12 * (j0 - j1)
            positions = x0 + dt / 2 * (v0 + velocities) + dt * dt / 12 * (a0 - a1)
        bodies = before._replace(positions=positions, velocities=velocities)
        if eta is None:
            return State(bodies, a1, j1)
        return State(bodies, a1, j1, _next_step((a0, j0), (a1, j1), dt, eta, share))

    def wanted_step(
        self, state: State, law: Law, *, eta: jax.Array, share: Share = ALONE
    ) -> jax.Array:
        """How long the next step should be, a scalar."""
        return state.next_step


def _next_step(before, after, dt, eta, share):
    """How long the step after one of length `dt` should be.

    Args:
        before: Accelerations and jerks at its beginning.
        after: The same at its end.
        dt: Its length.
        eta: Accuracy.
        share: Which bodies these are.
    """
    (a0, j0), (a1, j1) = before, after
    snap = norms((6 * (a0 - a1) + dt * (2 * j0 + 4 * j1)) / dt**2)
    wanted = (norms(a1) * snap + norms(j1) ** 2) / (2 * snap**2)
    return jnp.minimum(jnp.sqrt(eta * share.smallest(wanted)), 2 * dt)


Integrator = Leapfrog | Hermite


def check_settings(
    law: Law,
    integrator: Integrator,
    *,
    dt: float | jax.Array | None = None,
    eta: float | jax.Array | None = None,
) -> None:
    """Raises a ValueError unless law, integrator and length of steps go together.

    Args:
        law: The force law.
        integrator: How to take steps.
        dt: Length of all steps, above 0; either this or `eta` is given.
        eta: Accuracy of adaptive steps, above 0.
    """
    if isinstance(integrator, Hermite) and not isinstance(law, Gravity):
        raise ValueError(f"Hermite needs the jerk, which gravity has, not {law}; use leapfrog")
    if (dt is None) == (eta is None):
        raise ValueError(f"give either dt or eta, not {dt=} and {eta=}")
    name, value = ("dt", dt) if eta is None else ("eta", eta)
    if not isinstance(value, jax.core.Tracer) and not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be above 0, not {value}")
    unsoftened = isinstance(law, Gravity) and law.softening == 0
    if unsoftened and eta is not None and isinstance(integrator, Leapfrog):
        raise ValueError(
            "softening is 0, and leapfrog's adaptive steps need one: give dt, or use Hermite"
        )
