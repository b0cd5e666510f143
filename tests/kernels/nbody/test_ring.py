"""Bodies split over devices feel what they feel on one."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepaudio.kernels import nbody

sys.path.insert(0, str(Path(__file__).parent))
import _ring_process  # noqa: E402


@pytest.fixture
def eight():
    if jax.device_count() != 8:
        pytest.fail("the tests' set-up makes eight devices")


@pytest.mark.usefixtures("eight")
def test_a_ring_of_eight_equals_one():
    arrays = _ring_process.bodies()
    run, place = _ring_process.sharded(_ring_process.accelerations_and_jerks, 2)
    found = run(*(place(array) for array in arrays))
    expected = nbody.gravity_and_jerk(*map(jnp.asarray, arrays), softening=0.1)
    assert len(found[0].sharding.device_set) == 8
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("eight")
def test_a_body_leaves_itself_out_on_every_device(atoms):
    arrays = tuple(array.astype(np.float32) for array in atoms(80))

    def forces_and_energies(*arrays):
        return (
            nbody.lennard_jones_coulomb(*arrays, dielectric="linear", axis_name="bodies"),
            nbody.lennard_jones_coulomb_energy(*arrays, dielectric="linear", axis_name="bodies"),
        )

    run, place = _ring_process.sharded(forces_and_energies, 2)
    forces, energies = run(*(place(array) for array in arrays))
    arrays = tuple(map(jnp.asarray, arrays))
    expected = nbody.lennard_jones_coulomb(*arrays, dielectric="linear")
    np.testing.assert_allclose(forces, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
    expected = nbody.lennard_jones_coulomb_energy(*arrays, dielectric="linear")
    np.testing.assert_allclose(energies, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("eight")
def test_gradients_go_round_the_ring():
    positions, _, masses = _ring_process.bodies()

    def square(positions, masses):
        found = nbody.gravity(positions, masses, softening=0.1, axis_name="bodies")
        return (jax.lax.psum(jnp.sum(found**2), "bodies")[None],)

    mesh_run, place = _ring_process.sharded(square, 1)
    ring = jax.grad(lambda p, m: mesh_run(p, m)[0][0], argnums=(0, 1))
    found = ring(place(positions), place(masses))
    expected = jax.grad(
        lambda p, m: jnp.sum(nbody.gravity(p, m, softening=0.1) ** 2), argnums=(0, 1)
    )(jnp.asarray(positions), jnp.asarray(masses))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_two_processes_equal_one(tmp_path, repository):
    output = tmp_path / "found.npz"
    environment = {
        **os.environ,
        "PYTHONPATH": str(repository),
        "XLA_FLAGS": "--xla_backend_optimization_level=1",
    }
    program = [sys.executable, _ring_process.__file__, f"127.0.0.1:{_free_port()}", "2"]
    processes = [
        subprocess.Popen(
            [*program, str(number), str(output)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    arrays = map(jnp.asarray, _ring_process.bodies())
    expected = nbody.gravity_and_jerk(*arrays, softening=0.1)
    with np.load(output) as found:
        for number, theirs in enumerate(expected):
            np.testing.assert_allclose(found[f"arr_{number}"], theirs, rtol=1e-4, atol=1e-6)
