"""Lennard-Jones and Coulomb forces against energies in float64, and closed forms of a pair."""

import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from deepaudio.kernels import nbody

sys.path.insert(0, str(Path(__file__).parent))
import _direct  # noqa: E402

DIELECTRICS = ("constant", "linear", "sigmoidal")


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("dielectric", DIELECTRICS)
def test_float64_equals_the_direct_sum(atoms, dielectric):
    arrays = atoms(150)
    forces, energies = _direct.molecular(*arrays, dielectric)
    arrays = tuple(jnp.asarray(array) for array in arrays)
    found = nbody.lennard_jones_coulomb(*arrays, dielectric=dielectric)
    np.testing.assert_allclose(found, forces, rtol=1e-8, atol=1e-8 * np.abs(forces).max())
    found = nbody.lennard_jones_coulomb_energy(*arrays, dielectric=dielectric)
    np.testing.assert_allclose(found, energies, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dielectric", DIELECTRICS)
def test_float32_is_as_near_as_float32_can_be(atoms, dielectric):
    arrays = tuple(np.asarray(array, np.float32) for array in atoms(700))
    forces, energies = _direct.molecular(*(a.astype(np.float64) for a in arrays), dielectric)
    arrays = tuple(jnp.asarray(array) for array in arrays)
    found = nbody.lennard_jones_coulomb(*arrays, dielectric=dielectric)
    # Twelfth powers multiply rounding by twelve.
    away = np.linalg.norm(found - forces, axis=1)
    assert (away / np.linalg.norm(forces, axis=1)).max() < 1e-4
    assert away.max() < 5e-6 * np.linalg.norm(forces, axis=1).max()
    found = nbody.lennard_jones_coulomb_energy(*arrays, dielectric=dielectric)
    np.testing.assert_allclose(found, energies, rtol=1e-4, atol=2e-5 * np.abs(energies).max())


def pair(distance, charges=(0.0, 0.0), sigmas=(1.0, 1.0), epsilons=(1.0, 1.0)):
    positions = jnp.array([[0.0, 0.0, 0.0], [0.0, distance, 0.0]], jnp.float32)
    return (positions, *(jnp.array(values, jnp.float32) for values in (charges, sigmas, epsilons)))


def test_a_pair_rests_where_its_energy_is_least():
    """At 2^(1/6) sigma, epsilon deep, with the means of Lorentz and of Berthelot."""
    sigma, epsilon = (0.8 + 1.4) / 2, np.sqrt(0.5 * 2.0)
    arrays = pair(2 ** (1 / 6) * sigma, sigmas=(0.8, 1.4), epsilons=(0.5, 2.0))
    assert np.abs(nbody.lennard_jones_coulomb(*arrays)).max() < 1e-5
    energy = nbody.lennard_jones_coulomb_energy(*arrays)
    np.testing.assert_allclose(energy, [-epsilon, -epsilon], rtol=1e-6)
    nearer = pair(sigma, sigmas=(0.8, 1.4), epsilons=(0.5, 2.0))
    assert nbody.lennard_jones_coulomb(*nearer)[1, 1] > 1.0, "inside, they push each other away"


@pytest.mark.parametrize(
    ("dielectric", "energy"), [("constant", 6.0 / (2.0 * 3.0)), ("linear", 6.0 / (2.0 * 9.0))]
)
def test_coulomb_s_law(dielectric, energy):
    """Two charges of 1 and 3 at distance 3, k = 2 and D = 2 or 2 r."""
    arrays = pair(3.0, charges=(1.0, 3.0), epsilons=(0.0, 0.0))
    options = {"dielectric": dielectric, "permittivity": 2.0, "coulomb": 2.0}
    found = nbody.lennard_jones_coulomb_energy(*arrays, **options)
    np.testing.assert_allclose(found, [energy, energy], rtol=1e-6)
    force = nbody.lennard_jones_coulomb(*arrays, **options)[1, 1]
    times = {"constant": 1, "linear": 2}[dielectric]
    np.testing.assert_allclose(force, times * energy / 3.0, rtol=1e-6)


def test_water_shields_charges_far_apart_and_not_those_in_contact():
    bare = nbody.lennard_jones_coulomb_energy(*pair(60.0, charges=(1.0, 1.0)))
    shielded = nbody.lennard_jones_coulomb_energy(
        *pair(60.0, charges=(1.0, 1.0)), dielectric="sigmoidal"
    )
    np.testing.assert_allclose(bare / shielded, [78.4, 78.4], rtol=1e-3)
    assert 1.0 < _direct.permittivity("sigmoidal", np.array(0.0)) < 2.0


def test_species_stand_for_their_values(atoms):
    positions, charges, *_ = (jnp.asarray(a, jnp.float32) for a in atoms(90))
    species = jnp.arange(90) % 3
    sigmas = jnp.array([0.8, 0.9, 1.0], jnp.float32)
    epsilons = jnp.array([1.0, 0.0, 0.5], jnp.float32)
    named = nbody.lennard_jones_coulomb(positions, charges, sigmas, epsilons, species=species)
    each = nbody.lennard_jones_coulomb(positions, charges, sigmas[species], epsilons[species])
    np.testing.assert_array_equal(named, each)


def test_bodies_without_charge_or_depth_feel_nothing(atoms):
    positions, charges, sigmas, _ = (jnp.asarray(a, jnp.float32) for a in atoms(60))
    found = nbody.lennard_jones_coulomb(positions, 0 * charges, sigmas, 0 * sigmas)
    np.testing.assert_array_equal(found, np.zeros((60, 3)))
