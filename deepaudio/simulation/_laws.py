"""The force laws that a simulation can follow, over the kernels that sum them."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from deepaudio.kernels import nbody
from deepaudio.simulation._bodies import Bodies, check_bodies, is_molecular

DIELECTRICS = ("constant", "linear", "sigmoidal")


@dataclasses.dataclass(frozen=True)
class Gravity:
    """Newton's gravity with Plummer softening; the gravitational constant is 1.

    Attributes:
        softening: The length in a_i = sum_j m_j r_ij / (r_ij^2 + softening^2)^(3/2).
        implementation: What sums the forces: "xla", "mosaic_gpu", or None to choose by device.
    """

    softening: float = 0.0
    implementation: str | None = None

    def __post_init__(self):
        """Checks the softening."""
        if not (math.isfinite(self.softening) and self.softening >= 0):
            raise ValueError(f"softening must not be negative, as {self.softening} is")

    def accelerations(self, bodies: Bodies, axis_name: str | None = None) -> jax.Array:
        """Accelerations, (N, 3).

        Args:
            bodies: N bodies, or this device's share of them.
            axis_name: Inside `jax.shard_map`, the axis that bodies are split over.
        """
        return nbody.gravity(
            bodies.positions, bodies.masses, **self._settings(), axis_name=axis_name
        )

    def accelerations_and_jerks(
        self, bodies: Bodies, axis_name: str | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Accelerations and their time derivatives, (N, 3) each; arguments as above."""
        return nbody.gravity_and_jerk(
            bodies.positions,
            bodies.velocities,
            bodies.masses,
            **self._settings(),
            axis_name=axis_name,
        )

    def energies(self, bodies: Bodies, axis_name: str | None = None) -> jax.Array:
        """Energy of each body with all others, (N,); half their sum is the potential energy."""
        return bodies.masses * self.potentials(bodies, axis_name)

    def potentials(self, bodies: Bodies, axis_name: str | None = None) -> jax.Array:
        """Potential where each body is, without its own, (N,)."""
        return nbody.gravity_potential(
            bodies.positions, bodies.masses, **self._settings(), axis_name=axis_name
        )

    def time_scales(self, bodies: Bodies, accelerations: jax.Array) -> jax.Array:
        """How long each body takes to fall through a softening length, over sqrt(2), (N,).

        sqrt(softening / |a|), the usual criterion of collisionless codes (Power et al. 2003,
        MNRAS 338, 14). It needs a softening above 0.
        """
        return jnp.sqrt(self.softening / norms(accelerations))

    def _settings(self):
        return {"softening": self.softening, "implementation": self.implementation}


@dataclasses.dataclass(frozen=True)
class Molecular:
    """Lennard-Jones and Coulomb forces between all pairs, mixed after Lorentz and Berthelot.

    In reduced units: with sigma, epsilon and mass 1, the unit of time is sigma sqrt(m / epsilon),
    and Boltzmann's constant is 1, so that a temperature is an energy.

    Attributes:
        dielectric: "constant", or a dielectric that grows with distance, "linear" or "sigmoidal".
        permittivity: Of the constant dielectric, or the factor of the linear one.
        coulomb: Energy of two unit charges at unit distance in a vacuum.
        implementation: What sums the forces: "xla", "mosaic_gpu", or None to choose by device.
    """

    dielectric: str = "constant"
    permittivity: float = 1.0
    coulomb: float = 1.0
    implementation: str | None = None

    def __post_init__(self):
        """Checks the settings."""
        if self.dielectric not in DIELECTRICS:
            raise ValueError(f"dielectric {self.dielectric!r} is not one of {DIELECTRICS}")
        if not (math.isfinite(self.permittivity) and self.permittivity > 0):
            raise ValueError(f"permittivity must be above 0, not {self.permittivity}")
        if not math.isfinite(self.coulomb):
            raise ValueError(f"coulomb must be finite, not {self.coulomb}")

    def accelerations(self, bodies: Bodies, axis_name: str | None = None) -> jax.Array:
        """Accelerations, (N, 3); arguments as for `Gravity`."""
        forces = nbody.lennard_jones_coulomb(
            *self._constants(bodies), **self._settings(), axis_name=axis_name
        )
        return forces / bodies.masses[:, None]

    def energies(self, bodies: Bodies, axis_name: str | None = None) -> jax.Array:
        """Energy of each body with all others, (N,); half their sum is the potential energy."""
        return nbody.lennard_jones_coulomb_energy(
            *self._constants(bodies), **self._settings(), axis_name=axis_name
        )

    def time_scales(self, bodies: Bodies, accelerations: jax.Array) -> jax.Array:
        """How long each body takes to move by its diameter, (N,).

        The lesser of sigma / |v| and sqrt(sigma / |a|).
        """
        moving = bodies.sigmas / norms(bodies.velocities)
        return jnp.minimum(moving, jnp.sqrt(bodies.sigmas / norms(accelerations)))

    def _constants(self, bodies):
        return bodies.positions, bodies.charges, bodies.sigmas, bodies.epsilons

    def _settings(self):
        return {
            "dielectric": self.dielectric,
            "permittivity": self.permittivity,
            "coulomb": self.coulomb,
            "implementation": self.implementation,
        }


Law = Gravity | Molecular


def check_system(bodies: Bodies, law: Law) -> None:
    """Raises a ValueError unless the bodies can be simulated, and have what the law needs."""
    check_bodies(bodies)
    if isinstance(law, Molecular) and not is_molecular(bodies):
        raise ValueError("molecular bodies need charges, sigmas and epsilons; one is None")


def norms(vectors: jax.Array) -> jax.Array:
    """Lengths of (N, 3) vectors, (N,)."""
    return jnp.sqrt(jnp.sum(vectors * vectors, axis=-1))


def potential_energy(bodies: Bodies, law: Law) -> jax.Array:
    """Potential energy of all pairs, a scalar that can be differentiated."""
    return 0.5 * jnp.sum(law.energies(bodies))
