"""What simulations start from, against closed forms and brute force in numpy."""

import math

import numpy as np
import pytest
from scipy import stats

from deepaudio import simulation

ALL = [
    lambda **kw: simulation.plummer(200, 3, **kw),
    lambda **kw: simulation.uniform_sphere(200, 3, virial_ratio=0.3, **kw),
    lambda **kw: simulation.kepler(0.5, **kw),
    lambda **kw: simulation.figure_eight(**kw),
    lambda **kw: simulation.lennard_jones_cluster(55, 3, **kw),
    lambda **kw: simulation.ionic_cluster(4, 3, **kw),
]


def distances(positions):
    """Of all pairs, each once, (pairs,)."""
    first, second = np.triu_indices(len(positions), 1)
    return np.linalg.norm(positions[first] - positions[second], axis=1)


def gravitational_energy(bodies):
    first, second = np.triu_indices(len(bodies.masses), 1)
    return -np.sum(bodies.masses[first] * bodies.masses[second] / distances(bodies.positions))


def kinetic_energy(bodies):
    return 0.5 * np.sum(bodies.masses[:, None] * bodies.velocities**2)


def molecular_energy(bodies, scale=1.0):
    first, second = np.triu_indices(len(bodies.masses), 1)
    r = scale * distances(bodies.positions)
    charges = bodies.charges[first] * bodies.charges[second]
    return np.sum(4 * (r**-12.0 - r**-6.0) + charges / r)


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_start_is_at_rest_and_the_same_again(make, dtype):
    bodies, again = make(dtype=dtype), make(dtype=dtype)
    for array, other in zip(bodies, again, strict=True):
        if array is not None:
            assert array.dtype == dtype and np.array_equal(array, other)
    momentum = bodies.masses.astype(float) @ bodies.velocities
    assert np.abs(momentum).max() < (1e-5 if dtype == "float32" else 1e-12)


def test_plummer_sphere_is_in_henon_units():
    bodies = simulation.plummer(3000, 1, dtype="float64")
    potential, kinetic = gravitational_energy(bodies), kinetic_energy(bodies)
    assert bodies.masses.sum() == pytest.approx(1)
    assert potential + kinetic == pytest.approx(-0.25, abs=0.01)
    assert 2 * kinetic + potential == pytest.approx(0, abs=0.02)
    assert np.abs(bodies.masses @ bodies.positions).max() < 1e-12
    assert np.median(np.linalg.norm(bodies.positions, axis=1)) == pytest.approx(0.769, abs=0.03)


def test_plummer_radii_follow_the_mass_within_them():
    bodies = simulation.plummer(3000, 2, dtype="float64")
    radii = np.linalg.norm(bodies.positions, axis=1) / (3 * math.pi / 16)
    # The mass within r of a sphere of scale 1, cut where 99.9 % of it are.
    assert stats.kstest(radii, lambda r: (1 + r**-2.0) ** -1.5 / 0.999).pvalue > 0.01


def test_plummer_speeds_are_bound_and_of_the_right_dispersion():
    bodies = simulation.plummer(3000, 3, dtype="float64")
    scale = 3 * math.pi / 16
    depth = 1 / np.sqrt(np.sum(bodies.positions**2, axis=1) + scale**2)  # minus the potential
    squares = np.sum(bodies.velocities**2, axis=1)
    assert np.all(squares < 2.05 * depth)
    # The mean square speed is half the depth everywhere: of the square over the escape speed's
    # square, q^2, it is 1/4 (the integral of q^4 (1 - q^2)^(7/2) over that of q^2 (1 - q^2)^(7/2)).
    assert np.mean(squares / (2 * depth)) == pytest.approx(0.25, abs=0.01)


def test_plummer_velocities_are_isotropic():
    bodies = simulation.plummer(3000, 4, dtype="float64")
    for velocity in bodies.velocities.T:
        assert np.mean(velocity**2) == pytest.approx(1 / 6, rel=0.1)
    outwards = bodies.positions / np.linalg.norm(bodies.positions, axis=1, keepdims=True)
    radial = np.sum(outwards * bodies.velocities, axis=1)
    assert np.mean(radial**2) == pytest.approx(1 / 6, rel=0.1)
    cosines = radial / np.linalg.norm(bodies.velocities, axis=1)
    assert stats.kstest(cosines, stats.uniform(-1, 2).cdf).pvalue > 0.01


def test_a_virialized_plummer_sphere_is_exact(x64):
    bodies = simulation.plummer(300, 5, virialize=True, dtype="float64")
    assert gravitational_energy(bodies) == pytest.approx(-0.5, abs=1e-10)
    assert kinetic_energy(bodies) == pytest.approx(0.25, abs=1e-10)


def test_a_uniform_sphere_is_uniform():
    bodies = simulation.uniform_sphere(3000, 6, virial_ratio=0.4, dtype="float64")
    radii = np.linalg.norm(bodies.positions, axis=1)
    assert stats.kstest(radii**3, "uniform").pvalue > 0.01
    assert kinetic_energy(bodies) == pytest.approx(0.4 * 0.6)
    assert gravitational_energy(bodies) == pytest.approx(-0.6, abs=0.01)
    assert not simulation.uniform_sphere(10, 6).velocities.any()


@pytest.mark.parametrize(("eccentricity", "ratio"), [(0.0, 1.0), (0.5, 0.1), (0.9, 3.0)])
def test_a_kepler_pair_has_its_elements(eccentricity, ratio):
    bodies = simulation.kepler(eccentricity, mass_ratio=ratio, dtype="float64")
    first, second = bodies.masses
    assert second / first == pytest.approx(ratio)
    energy = kinetic_energy(bodies) + gravitational_energy(bodies)
    assert energy == pytest.approx(-first * second / 2)  # of a semi-major axis of 1
    r = bodies.positions[1] - bodies.positions[0]
    v = bodies.velocities[1] - bodies.velocities[0]
    # The Laplace-Runge-Lenz vector points to the nearest approach.
    vector = np.cross(v, np.cross(r, v)) - r / np.linalg.norm(r)
    np.testing.assert_allclose(vector, [-eccentricity, 0, 0], atol=1e-12)
    assert np.linalg.norm(r) == pytest.approx(1 + eccentricity)


def test_the_figure_eight_starts_in_line_without_angular_momentum():
    bodies = simulation.figure_eight(dtype="float64")
    assert not bodies.positions[2].any()
    assert np.abs(np.cross(bodies.positions, bodies.velocities).sum(axis=0)).max() < 1e-12


def test_a_lennard_jones_cluster_is_a_crystal_at_its_least_energy():
    bodies = simulation.lennard_jones_cluster(300, 7, temperature=0.2, dtype="float64")
    r = distances(bodies.positions)
    nearest = r.min()
    assert nearest == pytest.approx(1.0902, abs=1e-3)  # 0.971 of the pair's own
    # Face-centred cubic: the next neighbours are sqrt(2) times as far, then sqrt(3).
    shells = np.unique((r[r < 1.8 * nearest] / nearest).round(3))
    np.testing.assert_allclose(shells, [1, 1.414, 1.732], atol=2e-3)
    energies = [molecular_energy(bodies, scale) for scale in (0.95, 1.0, 1.05)]
    assert energies[1] == min(energies) and energies[1] / 300 < -4
    # As round as a ball of its volume.
    radius = (300 / 4 / (4 / 3 * math.pi)) ** (1 / 3) * nearest * math.sqrt(2)
    centred = bodies.positions - bodies.positions.mean(axis=0)
    assert np.linalg.norm(centred, axis=1).max() < 1.15 * radius
    assert simulation.temperature(bodies) == pytest.approx(0.2)


def test_an_ionic_cluster_is_rock_salt_at_its_least_energy():
    bodies = simulation.ionic_cluster(4, 8, temperature=0.0, dtype="float64")
    assert len(bodies.masses) == 64 and bodies.charges.sum() == 0
    r = distances(bodies.positions)
    first, second = np.triu_indices(64, 1)
    touching = r < 1.01 * r.min()
    assert touching.sum() == 3 * 4 * 4 * 3  # edges of the cubic grid
    assert np.all(bodies.charges[first[touching]] == -bodies.charges[second[touching]])
    energies = [molecular_energy(bodies, scale) for scale in (0.99, 1.0, 1.01)]
    assert energies[1] == min(energies)


@pytest.mark.parametrize(("side", "per_ion"), [(2, 3 - 3 / 2**0.5 + 1 / 3**0.5), (10, 1.7476)])
def test_the_energy_of_a_cube_of_salt_is_its_madelung_sum(side, per_ion):
    bodies = simulation.ionic_cluster(side, 9, charge=2.0, temperature=0.0)
    law = simulation.Molecular(coulomb=3.0)
    neutral = bodies._replace(charges=0 * bodies.charges)
    number, spacing = side**3, distances(bodies.positions[:2])[0]
    # What charges add, in units of the energy of two touching ions.
    added = simulation.potential_energy(bodies, law) - simulation.potential_energy(neutral, law)
    found = -2 * float(added) / number / (3.0 * 4.0 / spacing)
    # Ions at the surface of a cube have fewer neighbours than those of a large crystal.
    assert found == pytest.approx(per_ion, rel=1e-5 if side == 2 else 0.05)
    assert found <= per_ion * (1 + 1e-5)
    first, second = np.triu_indices(number, 1)
    r = distances(bodies.positions.astype(float))
    brute = np.sum(3.0 * bodies.charges[first] * bodies.charges[second] / r)
    assert float(added) == pytest.approx(brute, rel=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: simulation.plummer(1, 0), "at least 2 bodies, not 1"),
        (lambda: simulation.uniform_sphere(0, 0), "at least 2 bodies, not 0"),
        (lambda: simulation.uniform_sphere(9, 0, virial_ratio=-1.0), "as -1.0 is"),
        (lambda: simulation.kepler(1.0), "not 1.0"),
        (lambda: simulation.kepler(math.nan), "not nan"),
        (lambda: simulation.kepler(mass_ratio=0.0), "above 0, not 0.0"),
        (lambda: simulation.lennard_jones_cluster(1, 0), "not 1"),
        (lambda: simulation.lennard_jones_cluster(9, 0, temperature=-0.1), "as -0.1 is"),
        (lambda: simulation.ionic_cluster(1, 0), "not 1"),
        (lambda: simulation.ionic_cluster(2, 0, charge=math.inf), "not inf"),
    ],
)
def test_impossible_starts_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
