"""Clusters of atoms and ions to start from, in reduced units: sigma = epsilon = mass = 1."""

import math

import numpy as np

from deepaudio.simulation._bodies import Bodies
from deepaudio.simulation._initial import as_type, at_rest, check_number

# Nearest neighbours in a large face-centred cubic crystal at rest are so far apart: the sums of
# r^-12 and r^-6 over its sites are 12.13188 and 14.45392 (Kittel, Introduction to Solid State
# Physics, chapter 3).
_CUBIC_SPACING = (2 * 12.13188 / 14.45392) ** (1 / 6)


def lennard_jones_cluster(
    num_bodies: int,
    rng: np.random.Generator | int,
    *,
    temperature: float = 0.1,
    dtype: np.typing.DTypeLike = np.float32,
) -> Bodies:
    """A ball cut from a face-centred cubic crystal of neutral Lennard-Jones atoms.

    The spacing is that of a large crystal at rest. Half the kinetic energy soon becomes potential
    energy of vibrations, so the temperature falls to about half of what it is at the start.

    Args:
        num_bodies: At least 2.
        rng: A generator, or its seed, for the velocities.
        temperature: At the start, not negative, in units of epsilon. Small clusters melt at about
            0.3.
        dtype: float32 or float64.

    Returns:
        The bodies, as numpy arrays.

    Raises:
        ValueError: There are fewer than two bodies, or the temperature is negative.
    """
    check_number(num_bodies)
    # The ball must lie within the block of cells: 4 sites a cell.
    cells = math.ceil((6 * num_bodies / (4 * math.pi)) ** (1 / 3)) + 2
    corners = np.indices((cells, cells, cells)).reshape(3, -1).T
    in_cell = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2
    sites = (corners[:, None] + in_cell).reshape(-1, 3)
    # A little off the centre of symmetry, so that no two distances tie but for rounding.
    distances = np.linalg.norm(sites - cells / 2 - [0.013, 0.029, 0.041], axis=1)
    chosen = sites[np.argsort(distances)[:num_bodies]]
    positions = chosen * math.sqrt(2) * _CUBIC_SPACING
    return _cluster(positions, np.zeros(num_bodies), temperature, rng, dtype)


def ionic_cluster(
    side: int,
    rng: np.random.Generator | int,
    *,
    temperature: float = 0.1,
    charge: float = 1.0,
    dtype: np.typing.DTypeLike = np.float32,
) -> Bodies:
    """A cube of rock salt: ions of alternating charge on a simple cubic lattice.

    The spacing is that at which the energy of this cube is least with the law `Molecular()`.

    Args:
        side: Ions along an edge, at least 2; side^3 in all. The cube is neutral if it is even.
        rng: A generator, or its seed, for the velocities.
        temperature: At the start, not negative, in units of epsilon.
        charge: Of the ions, positive and negative in turn, above 0.
        dtype: float32 or float64.

    Returns:
        The bodies, as numpy arrays.

    Raises:
        ValueError: An argument is out of its range.
    """
    if side < 2:
        raise ValueError(f"side must be at least 2, not {side}")
    if not (math.isfinite(charge) and charge > 0):
        raise ValueError(f"charge must be above 0, not {charge}")
    places = np.indices((side, side, side)).reshape(3, -1).T
    charges = charge * (1 - 2.0 * (places.sum(axis=1) % 2))
    return _cluster(places * _salt_spacing(side, charge), charges, temperature, rng, dtype)


def _salt_spacing(side: int, charge: float) -> float:
    """The spacing at which the energy of a cube is least, with sigma = epsilon = 1.

    Between pairs it is 4 / r^12 - 4 / r^6 with the charges' q q' / r, so that its slope is zero
    where -48 S12 / s^13 + 24 S6 / s^7 - S1 / s^2 is, S being sums over the pairs of a cube of
    spacing 1.
    """
    steps = np.indices((2 * side - 1,) * 3).reshape(3, -1).T - (side - 1)
    # So many pairs of a cube are these steps apart; a site and itself are none.
    pairs = np.prod(side - abs(steps), axis=1) * steps.any(axis=1)
    distances = np.maximum(np.linalg.norm(steps, axis=1), 1)
    sum_12, sum_6 = (float(pairs @ distances**-power) for power in (12.0, 6.0))
    signs = charge**2 * (1 - 2.0 * (steps.sum(axis=1) % 2))
    sum_1 = float((pairs * signs) @ (1 / distances))

    low, high = 0.05, 1.2  # two ions without charges are 1.12 apart
    for _ in range(60):
        s = (low + high) / 2
        slope = -48 * sum_12 / s**13 + 24 * sum_6 / s**7 - sum_1 / s**2
        low, high = (s, high) if slope < 0 else (low, s)
    return low


def _cluster(positions, charges, temperature, rng, dtype) -> Bodies:
    """Atoms of mass, sigma and epsilon 1 with velocities of exactly this temperature."""
    if not (math.isfinite(temperature) and temperature >= 0):
        raise ValueError(f"temperature must not be negative, as {temperature} is")
    velocities = np.random.default_rng(rng).standard_normal(positions.shape)
    ones = np.ones(len(positions))
    bodies = at_rest(Bodies(positions, velocities, ones, charges, ones, ones))
    freedom = 3 * (len(positions) - 1)
    scale = math.sqrt(temperature * freedom / np.square(bodies.velocities).sum())
    return as_type(bodies._replace(velocities=scale * bodies.velocities), dtype)
