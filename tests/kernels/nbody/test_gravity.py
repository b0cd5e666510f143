"""Gravity, its potential and its jerk, against sums in float64 and against their definitions."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepaudio.kernels import nbody

sys.path.insert(0, str(Path(__file__).parent))
import _direct  # noqa: E402

# Of a force's length, in float32.
FORCE_ERROR = 2e-6


def single(*arrays):
    return tuple(jnp.asarray(array, jnp.float32) for array in arrays)


def rounded(*arrays):
    """Float64 arrays that hold what float32 can."""
    return tuple(np.asarray(array, np.float32).astype(np.float64) for array in arrays)


def error(found, expected):
    """Largest error of a body's vector, relative to its length.

    Where the pulls on a body nearly cancel, no float32 sum can be right to the little that is left:
    a tenth of the bodies' usual length is then compared with.
    """
    away = np.linalg.norm(np.asarray(found, np.float64) - expected, axis=-1)
    length = np.linalg.norm(expected, axis=-1)
    return (away / np.maximum(length, 0.1 * np.median(length))).max()


@pytest.mark.parametrize("number", [2, 3, 17, 1000, 3001])
def test_float32_equals_the_direct_sum(bodies, number):
    positions, velocities, masses = rounded(*bodies(number))
    a, j, potential = _direct.gravity(positions, velocities, masses, 0.05)
    p, v, m = single(positions, velocities, masses)
    assert error(nbody.gravity(p, m, softening=0.05), a) < FORCE_ERROR
    acceleration, jerk = nbody.gravity_and_jerk(p, v, m, softening=0.05)
    assert error(acceleration, a) < FORCE_ERROR
    # Jerks of many bodies cancel, so their error is compared with what was summed.
    assert np.abs(jerk - j).max() < 2e-6 * np.abs(j).max()
    np.testing.assert_allclose(
        nbody.gravity_potential(p, m, softening=0.05), potential, rtol=FORCE_ERROR
    )


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("softening", [0.0, 0.05])
def test_float64_equals_the_direct_sum(bodies, softening):
    positions, velocities, masses = bodies(500)
    a, j, potential = _direct.gravity(positions, velocities, masses, softening)
    p, v, m = (jnp.asarray(x) for x in (positions, velocities, masses))
    assert error(nbody.gravity(p, m, softening=softening), a) < 1e-12
    acceleration, jerk = nbody.gravity_and_jerk(p, v, m, softening=softening)
    assert acceleration.dtype == jnp.float64
    assert error(acceleration, a) < 1e-12 and np.abs(jerk - j).max() < 1e-12 * np.abs(j).max()
    np.testing.assert_allclose(
        nbody.gravity_potential(p, m, softening=softening), potential, rtol=1e-12
    )


@pytest.mark.usefixtures("double")
def test_the_jerk_is_the_acceleration_s_slope_in_time(bodies):
    positions, velocities, masses = (jnp.asarray(x) for x in bodies(50))

    def acceleration(time):
        return nbody.gravity(positions + time * velocities, masses, softening=0.1)

    h = 1e-5
    slope = (acceleration(h) - acceleration(-h)) / (2 * h)
    _, jerk = nbody.gravity_and_jerk(positions, velocities, masses, softening=0.1)
    np.testing.assert_allclose(jerk, slope, rtol=1e-6, atol=1e-7)


def test_targets_apart_from_the_sources(bodies):
    positions, velocities, masses = rounded(*bodies(300))
    places, moving, _ = rounded(*bodies(41))
    a, j, potential = _direct.gravity(positions, velocities, masses, 0.1, places, moving)
    p, v, m, t, u = single(positions, velocities, masses, places, moving)
    assert error(nbody.gravity(p, m, softening=0.1, targets=t), a) < FORCE_ERROR
    found = nbody.gravity_and_jerk(p, v, m, softening=0.1, targets=t, target_velocities=u)
    assert error(found[0], a) < FORCE_ERROR
    assert np.abs(found[1] - j).max() < 2e-6 * np.abs(j).max()
    found = nbody.gravity_potential(p, m, softening=0.1, targets=t)
    np.testing.assert_allclose(found, potential, rtol=FORCE_ERROR)


@pytest.mark.usefixtures("double")
def test_low_parts_of_positions_keep_near_bodies_apart(bodies):
    """A cluster far from the origin, whose sizes float32 positions cannot tell."""
    positions, velocities, masses = bodies(200)
    exact = 1e-3 * positions + np.array([1000.0, -2000.0, 3000.0])
    high = exact.astype(np.float32)
    low = (exact - high).astype(np.float32)
    expected, *_ = _direct.gravity(exact, velocities, masses, 1e-4)
    h, lo, m = single(high, low, masses)
    assert error(nbody.gravity(h, m, softening=1e-4, positions_low=lo), expected) < 5e-6
    assert error(nbody.gravity(h, m, softening=1e-4), expected) > 1e-2
    found = nbody.gravity(
        h, m, softening=1e-4, positions_low=lo, targets=h[:20], targets_low=lo[:20]
    )
    assert error(found, expected[:20]) < 5e-6


def test_forces_add_up_to_nothing(bodies):
    positions, _, masses = single(*bodies(700))
    total = masses @ nbody.gravity(positions, masses, softening=0.01)
    assert np.abs(total).max() < 1e-5


@pytest.mark.parametrize("softening", [0.0, 0.1])
def test_bodies_at_one_place(bodies, softening):
    """No direction, no force; and nothing that is not a number."""
    positions, velocities, masses = single(*bodies(40))
    positions = positions.at[7].set(positions[3])
    found = nbody.gravity(positions, masses, softening=softening)
    assert np.isfinite(found).all()
    without = nbody.gravity(positions, masses.at[7].set(0.0), softening=softening)
    np.testing.assert_allclose(found[3], without[3], rtol=1e-5)
    if softening:
        gradient = jax.grad(
            lambda p: nbody.gravity_and_jerk(p, velocities, masses, softening=softening)[1].sum()
        )(positions)
        assert np.isfinite(gradient).all()


def test_a_batch_is_its_members(bodies):
    batch = [single(*bodies(60)) for _ in range(3)]
    positions, _, masses = (jnp.stack(parts) for parts in zip(*batch, strict=True))
    together = jax.vmap(lambda p, m: nbody.gravity(p, m, softening=0.1))(positions, masses)
    for found, (p, _, m) in zip(together, batch, strict=True):
        np.testing.assert_allclose(found, nbody.gravity(p, m, softening=0.1), rtol=2e-6, atol=1e-7)


def test_memory_grows_with_bodies_not_with_pairs():
    """A pair's worth of memory for 100,000 bodies would be 40 GB."""
    number = 100_000
    positions = jax.ShapeDtypeStruct((number, 3), jnp.float32)
    masses = jax.ShapeDtypeStruct((number,), jnp.float32)

    def energy(positions, masses):
        return nbody.gravity(positions, masses, softening=0.1).sum()

    for function in (energy, jax.grad(energy, argnums=(0, 1))):
        memory = jax.jit(function).lower(positions, masses).compile().memory_analysis()
        assert memory.temp_size_in_bytes < 300 * number
