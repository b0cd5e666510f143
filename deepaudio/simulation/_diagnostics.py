"""Conserved quantities and other figures that say whether a simulation can be believed."""

import math
from typing import NamedTuple

import numpy as np

from deepaudio.simulation._bodies import Array, Bodies
from deepaudio.simulation._laws import Law, Molecular

LAGRANGIAN_SHARES = (0.1, 0.5, 0.9)
# Where energies nearly cancel, the error is told relative to this share of their sizes.
_SMALL_ENERGY = 1e-3


class Diagnostics(NamedTuple):
    """Figures of one instant, in the units of the law.

    Attributes:
        time: When.
        steps: Steps taken so far.
        kinetic: Kinetic energy.
        potential: Potential energy of all pairs.
        energy: Their sum.
        energy_error: What `energy_error` gives against the energy at the start.
        momentum_x: Momentum, and so on for y and z.
        momentum_y: See above.
        momentum_z: See above.
        angular_momentum_x: Angular momentum about the origin, and so on for y and z.
        angular_momentum_y: See above.
        angular_momentum_z: See above.
        virial_ratio: Kinetic energy over |potential energy|, 0.5 in equilibrium; NaN for
            molecules, whose forces are no power law.
        radius_10: Lagrangian radius, see `lagrangian_radii`, of 10 % of the mass.
        radius_50: Of half the mass.
        radius_90: Of 90 % of the mass.
        temperature: See `temperature`; NaN for gravity.
    """

    time: float
    steps: int
    kinetic: float
    potential: float
    energy: float
    energy_error: float
    momentum_x: float
    momentum_y: float
    momentum_z: float
    angular_momentum_x: float
    angular_momentum_y: float
    angular_momentum_z: float
    virial_ratio: float
    radius_10: float
    radius_50: float
    radius_90: float
    temperature: float


def diagnose(
    bodies: Bodies,
    law: Law,
    *,
    energies: Array | None = None,
    start: Diagnostics | None = None,
    time: float = 0.0,
    steps: int = 0,
) -> Diagnostics:
    """Takes the figures of an instant. All sums over bodies are in float64.

    Args:
        bodies: The bodies; concrete arrays.
        law: Gives the potential energy.
        energies: What `law.energies` gives, (N,), if that is known.
        start: Figures at the start, for the energy error; None makes it 0.
        time: When this is.
        steps: Steps taken so far.

    Returns:
        The figures.
    """
    energies = law.energies(bodies) if energies is None else energies
    masses, velocities = _float64(bodies.masses), _float64(bodies.velocities)
    momentum = masses @ velocities
    angular = masses @ np.cross(_float64(bodies.positions), velocities)
    kinetic = kinetic_energy(bodies)
    potential = 0.5 * float(_float64(energies).sum())
    molecular = isinstance(law, Molecular)
    found = Diagnostics(
        float(time),
        int(steps),
        kinetic,
        potential,
        kinetic + potential,
        0.0,
        *map(float, momentum),
        *map(float, angular),
        math.nan if molecular or potential == 0 else kinetic / abs(potential),
        *map(float, lagrangian_radii(bodies)),
        temperature(bodies) if molecular else math.nan,
    )
    return found if start is None else found._replace(energy_error=energy_error(found, start))


def energy_error(now: Diagnostics, start: Diagnostics) -> float:
    """The change of the energy, relative to the energy at the start.

    Where that is less than a thousandth of kinetic plus |potential| energy at the start, so that
    there is nothing to be relative to, it is relative to that thousandth.
    """
    sizes = start.kinetic + abs(start.potential)
    scale = max(abs(start.energy), _SMALL_ENERGY * sizes)
    change = now.energy - start.energy
    return change / scale if scale else change


def kinetic_energy(bodies: Bodies) -> float:
    """Kinetic energy, half the sum of m v^2."""
    speeds = np.square(_float64(bodies.velocities)).sum(axis=1)
    return 0.5 * float(_float64(bodies.masses) @ speeds)


def temperature(bodies: Bodies) -> float:
    """Temperature of at least 2 bodies, with Boltzmann's constant 1.

    2 K / (3 (N - 1)), where K is the kinetic energy about the centre of mass's motion.
    """
    masses, velocities = _float64(bodies.masses), _float64(bodies.velocities)
    drift = masses @ velocities / masses.sum()
    inner = masses @ np.square(velocities - drift).sum(axis=1)
    return float(inner) / (3 * (len(masses) - 1))


def lagrangian_radii(bodies: Bodies, shares: tuple[float, ...] = LAGRANGIAN_SHARES) -> np.ndarray:
    """Radii about the centre of mass that hold given shares of the mass.

    Args:
        bodies: The bodies.
        shares: Of the mass, each in (0, 1].

    Returns:
        (shares,) float64; each is the distance of the body with which the share is reached.
    """
    masses, positions = _float64(bodies.masses), _float64(bodies.positions)
    centre = masses @ positions / masses.sum()
    distances = np.linalg.norm(positions - centre, axis=1)
    order = np.argsort(distances)
    held = np.cumsum(masses[order])
    # The total itself is the yardstick, or a share of 1 might be beyond the last sum.
    places = np.searchsorted(held, np.asarray(shares) * held[-1] * (1 - 1e-12))
    return distances[order][places]


def _float64(array: Array) -> np.ndarray:
    return np.asarray(array, np.float64)
