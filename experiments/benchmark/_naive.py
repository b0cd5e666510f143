"""The force laws by broadcasting: the definition over all pairs, as one writes it first."""

import jax
import jax.numpy as jnp

from experiments.nbody.benchmark import SOFTENING


def force(name: str, *arrays: jax.Array) -> jax.Array | tuple[jax.Array, jax.Array]:
    """A law's forces or accelerations, for every body the sum over all others.

    Args:
        name: As `experiments.nbody.benchmark.law` knows it.
        *arrays: As its law takes them.

    Returns:
        (N, 3); two of them for gravity and jerk.
    """
    if name == "gravity":
        return _gravity(*arrays)
    if name == "gravity_and_jerk":
        return _gravity_and_jerk(*arrays)
    return _molecular(name.rpartition("_")[2], *arrays)


def _apart(vectors):
    """From body i to body j: (N, N, 3)."""
    return vectors[None] - vectors[:, None]


def _gravity(positions, masses):
    r = _apart(positions)
    square = (r * r).sum(-1) + SOFTENING**2
    return ((masses[None] * square**-1.5)[..., None] * r).sum(1)


def _gravity_and_jerk(positions, velocities, masses):
    r, v = _apart(positions), _apart(velocities)
    square = (r * r).sum(-1) + SOFTENING**2
    pull = (masses[None] * square**-1.5)[..., None]
    approach = ((r * v).sum(-1) / square)[..., None]
    return (pull * r).sum(1), (pull * (v - 3.0 * approach * r)).sum(1)


def _molecular(dielectric, positions, charges, sigmas, epsilons):
    r = _apart(positions)
    others = ~jnp.eye(len(charges), dtype=bool)
    # A body's pair with itself counts for nothing; its distance is any but zero.
    distance = jnp.sqrt(jnp.where(others, (r * r).sum(-1), 1.0))
    sixth = (0.5 * (sigmas[None] + sigmas[:, None]) / distance) ** 6
    depth = 4.0 * jnp.sqrt(epsilons[None] * epsilons[:, None])
    value, slope = _permittivity(dielectric, distance)
    energy = charges[None] * charges[:, None] / (value * distance)
    # Minus the energy's slope, times the distance.
    outward = depth * (12.0 * sixth**2 - 6.0 * sixth) + energy * (1.0 + slope * distance / value)
    return -(jnp.where(others, outward / distance**2, 0.0)[..., None] * r).sum(1)


def _permittivity(dielectric, distance):
    """D(r) and its slope; the sigmoid is Mehler and Solmajer's."""
    if dielectric == "constant":
        return jnp.ones_like(distance), jnp.zeros_like(distance)
    if dielectric == "linear":
        return distance, jnp.ones_like(distance)
    low, rise, shape, rate = -8.5525, 86.9525, 7.7839, 0.003627
    falling = shape * jnp.exp(-rate * rise * distance)
    return low + rise / (1.0 + falling), rate * rise**2 * falling / (1.0 + falling) ** 2
