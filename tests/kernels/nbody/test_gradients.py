"""Gradients through all pairs against differences, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from deepaudio.kernels import nbody

pytestmark = pytest.mark.usefixtures("double")


def waves(values):
    """A number to which every entry contributes otherwise."""
    order = jnp.arange(1.0, values.size + 1.0, dtype=values.dtype).reshape(values.shape)
    return jnp.sum(jnp.sin(values * order))


def check(function, *arrays, order=1):
    arrays = tuple(jnp.asarray(array) for array in arrays)
    check_grads(function, arrays, order=order, modes=["rev"], rtol=1e-5, atol=1e-6, eps=1e-5)


@pytest.mark.parametrize("softening", [0.0, 0.3])
def test_gravity(bodies, softening):
    positions, _, masses = bodies(9)
    check(lambda p, m: waves(nbody.gravity(p, m, softening=softening)), positions, masses)
    check(lambda p, m: waves(nbody.gravity_potential(p, m, softening=softening)), positions, masses)


def test_gravity_and_jerk(bodies):
    def total(p, v, m):
        acceleration, jerk = nbody.gravity_and_jerk(p, v, m, softening=0.3)
        return waves(acceleration) + waves(jerk)

    check(total, *bodies(9))


def test_targets(bodies):
    positions, _, masses = bodies(7)
    places, *_ = bodies(4)
    check(
        lambda p, m, t: waves(nbody.gravity(p, m, softening=0.3, targets=t)),
        positions,
        masses,
        places,
    )


@pytest.mark.parametrize("dielectric", ["constant", "linear", "sigmoidal"])
def test_molecules(atoms, dielectric):
    arrays = atoms(9)
    check(
        lambda *a: 1e-2 * jnp.sum(nbody.lennard_jones_coulomb(*a, dielectric=dielectric) ** 2),
        *arrays,
    )
    check(lambda *a: waves(nbody.lennard_jones_coulomb_energy(*a, dielectric=dielectric)), *arrays)


def test_gradients_have_gradients(bodies):
    positions, _, masses = bodies(5)
    check(lambda p, m: jnp.sum(nbody.gravity(p, m, softening=0.5) ** 2), positions, masses, order=2)


@pytest.mark.parametrize("dielectric", ["constant", "linear", "sigmoidal"])
def test_a_force_is_minus_the_energy_s_gradient(atoms, dielectric):
    positions, *rest = (jnp.asarray(array) for array in atoms(80))

    def energy(positions):
        each = nbody.lennard_jones_coulomb_energy(positions, *rest, dielectric=dielectric)
        return each.sum() / 2

    found = nbody.lennard_jones_coulomb(positions, *rest, dielectric=dielectric)
    np.testing.assert_allclose(found, -jax.grad(energy)(positions), rtol=1e-9, atol=1e-9)


def test_unsoftened_bodies_leave_themselves_out_of_gradients(bodies):
    """A pair of a body with itself, at distance zero, would give infinity."""
    positions, _, masses = (jnp.asarray(array) for array in bodies(30))
    gradient = jax.grad(lambda p: waves(nbody.gravity(p, masses, softening=0.0)))(positions)
    assert np.isfinite(gradient).all()
