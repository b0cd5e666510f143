"""Diagnostics, from their definitions."""

import math

import numpy as np
import pytest

from deepaudio import simulation
from deepaudio.simulation import Gravity, Molecular


@pytest.fixture
def bodies(rng):
    return simulation.Bodies(
        rng.standard_normal((7, 3)), rng.standard_normal((7, 3)), rng.uniform(1, 2, 7)
    )


def test_figures_of_gravity_are_those_of_sums_by_hand(bodies, x64):
    found = simulation.diagnose(bodies, Gravity(softening=0.3), time=2.0, steps=5)
    kinetic = potential = 0.0
    momentum, angular = np.zeros(3), np.zeros(3)
    for i in range(7):
        x, v, m = bodies.positions[i], bodies.velocities[i], bodies.masses[i]
        kinetic += m * v @ v / 2
        momentum += m * v
        angular += m * np.cross(x, v)
        for j in range(i):
            square = np.sum((x - bodies.positions[j]) ** 2) + 0.3**2
            potential -= m * bodies.masses[j] / math.sqrt(square)
    assert (found.time, found.steps, found.energy_error) == (2.0, 5, 0.0)
    assert found.kinetic == pytest.approx(kinetic) == simulation.kinetic_energy(bodies)
    assert found.potential == pytest.approx(potential)
    assert found.energy == pytest.approx(kinetic + potential)
    assert found.virial_ratio == pytest.approx(kinetic / -potential)
    np.testing.assert_allclose(found[6:9], momentum)
    np.testing.assert_allclose(found[9:12], angular)
    assert math.isnan(found.temperature)


def test_figures_of_molecules_are_those_of_sums_by_hand(x64):
    bodies = simulation.ionic_cluster(2, 0, temperature=0.7, dtype="float64")
    bodies = bodies._replace(velocities=bodies.velocities + np.array([3.0, 0, 0]))
    found = simulation.diagnose(bodies, Molecular())
    potential = 0.0
    for i in range(8):
        for j in range(i):
            r = np.linalg.norm(bodies.positions[i] - bodies.positions[j])
            potential += 4 * (r**-12 - r**-6) + bodies.charges[i] * bodies.charges[j] / r
    assert found.potential == pytest.approx(potential)
    # A drift of all bodies together is no heat.
    assert found.temperature == pytest.approx(0.7)
    assert found.kinetic == pytest.approx(0.5 * 8 * 9 + 1.5 * 7 * 0.7)
    assert math.isnan(found.virial_ratio)


def test_lagrangian_radii_hold_their_share_of_the_mass():
    places = np.zeros((4, 3))
    places[:, 0] = [1, 2, 3, 10]
    bodies = simulation.Bodies(places, 0 * places, np.array([4.0, 3.0, 2.0, 1.0]))
    # The centre of mass is at 2.6; the distances are 1.6, 0.6, 0.4 and 7.4.
    found = simulation.lagrangian_radii(bodies, (0.1, 0.2, 0.21, 0.5, 0.51, 0.9, 0.95, 1.0))
    np.testing.assert_allclose(found, [0.4, 0.4, 0.6, 0.6, 1.6, 1.6, 7.4, 7.4])


def test_energy_errors_are_relative_to_the_start(bodies, x64):
    start = simulation.diagnose(bodies, Gravity(softening=0.3))
    faster = bodies._replace(velocities=1.1 * bodies.velocities)
    found = simulation.diagnose(faster, Gravity(softening=0.3), start=start)
    assert found.energy_error == pytest.approx(0.21 * start.kinetic / abs(start.energy))
    # Where kinetic and potential energy cancel, there is no energy to be relative to.
    balanced = start._replace(kinetic=2.0, potential=-2.0, energy=0.0)
    moved = balanced._replace(energy=0.004)
    assert simulation.energy_error(moved, balanced) == pytest.approx(1.0)
