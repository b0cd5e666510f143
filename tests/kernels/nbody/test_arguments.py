"""Bad input is refused in one line that names the argument and quotes the value."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepaudio.kernels import nbody

POSITIONS = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)
ONES = jnp.ones(4, jnp.float32)
NAN = POSITIONS.at[2, 1].set(jnp.nan)


@pytest.mark.parametrize(
    ("positions", "masses", "options", "match"),
    [
        (POSITIONS[:, :2], ONES, {}, r"positions must be \(N, 3\).*not \(4, 2\)"),
        (POSITIONS[:0], ONES[:0], {}, r"N of at least 2, not \(0, 3\)"),
        (POSITIONS[:1], ONES[:1], {}, r"N of at least 2, not \(1, 3\)"),
        (POSITIONS.astype(jnp.int32), ONES, {}, "not int32"),
        (POSITIONS.astype(jnp.float16), ONES, {}, "not float16"),
        (POSITIONS, ONES[:3], {}, r"masses must be \(4,\) float32, not \(3,\)"),
        (POSITIONS, jnp.ones(4, jnp.int32), {}, "not .* int32"),
        (POSITIONS, ONES, {"softening": -0.5}, "softening=-0.5"),
        (POSITIONS, ONES, {"softening": float("nan")}, "softening=nan"),
        (NAN, ONES, {}, r"positions\[2, 1\] = nan"),
        (POSITIONS, ONES.at[3].set(jnp.inf), {}, r"masses\[3\] = inf"),
        (POSITIONS, ONES, {"implementation": "cuda"}, "implementation='cuda'"),
        (POSITIONS, ONES, {"targets": POSITIONS[:0]}, r"targets must be \(N, 3\)"),
        (POSITIONS, ONES, {"positions_low": POSITIONS[:2]}, "positions_low must be"),
        (POSITIONS, ONES, {"targets_low": POSITIONS}, "targets_low needs targets"),
        (POSITIONS, ONES, {"targets": NAN}, r"targets\[2, 1\] = nan"),
    ],
)
def test_gravity(positions, masses, options, match):
    options = {"softening": 0.1, **options}
    for function in (nbody.gravity, nbody.gravity_potential):
        with pytest.raises(ValueError, match=match):
            function(positions, masses, **options)


def test_jerk():
    with pytest.raises(ValueError, match="velocities must be"):
        nbody.gravity_and_jerk(POSITIONS, POSITIONS[:2], ONES, softening=0.1)
    with pytest.raises(ValueError, match="given together"):
        nbody.gravity_and_jerk(POSITIONS, POSITIONS, ONES, softening=0.1, targets=POSITIONS)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"sigmas": ONES.at[1].set(0.0)}, r"sigmas\[1\] = 0.0 must be above 0"),
        ({"epsilons": -ONES}, r"epsilons\[0\] = -1.0 must be at least 0"),
        ({"charges": ONES[:2]}, "charges must be"),
        ({"dielectric": "quadratic"}, "dielectric='quadratic'"),
        ({"permittivity": 0.0}, "permittivity=0.0"),
        ({"coulomb": float("inf")}, "coulomb=inf"),
        ({"species": jnp.array([0, 1, 2, 4])}, "species 4 must be from 0 to 3"),
        ({"species": ONES}, "integers"),
    ],
)
def test_molecules(changes, match):
    arguments = {"positions": POSITIONS, "charges": ONES, "sigmas": ONES, "epsilons": ONES}
    for function in (nbody.lennard_jones_coulomb, nbody.lennard_jones_coulomb_energy):
        with pytest.raises(ValueError, match=match):
            function(**(arguments | changes))


def test_the_gpu_kernel_has_no_float64():
    with jax.enable_x64(True):
        positions = jnp.asarray(np.asarray(POSITIONS, np.float64))
        with pytest.raises(ValueError, match="float32, not float64"):
            nbody.gravity(positions, jnp.ones(4), softening=0.1, implementation="mosaic_gpu")
