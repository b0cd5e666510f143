"""Bodies, double precision, and the laws summed the plain way."""

import jax
import numpy as np
import pytest


@pytest.fixture
def double():
    """Lets a test use float64."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def bodies(rng):
    """A function from a number of bodies to (positions, velocities, masses) in float64."""

    def draw(number):
        positions = rng.normal(0, 1, (number, 3))
        velocities = rng.normal(0, 0.5, (number, 3))
        return positions, velocities, rng.uniform(0.5, 1.5, number) / number

    return draw


@pytest.fixture
def atoms(rng):
    """A function from a number of atoms to (positions, charges, sigmas, epsilons) in float64.

    They stand near the places of a cubic lattice, so that no two are far inside one another.
    """

    def draw(number):
        side = int(np.ceil(number ** (1 / 3)))
        grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)
        positions = 1.2 * grid[:number] + rng.normal(0, 0.08, (number, 3))
        charges = rng.normal(0, 1, number)
        return positions, charges, rng.uniform(0.8, 1.1, number), rng.uniform(0.5, 1.5, number)

    return draw
