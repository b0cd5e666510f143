"""Two processes joined on loopback train what one process trains."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import _process  # noqa: E402

# Sums over four devices are taken in another order than over eight.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_two_processes_equal_one(tmp_path, repository):
    output = tmp_path / "state.npz"
    environment = {
        **os.environ,
        "PYTHONPATH": str(repository),
        "XLA_FLAGS": "--xla_backend_optimization_level=1",
    }
    program = [sys.executable, _process.__file__, f"127.0.0.1:{_free_port()}", "2"]
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

    state, metrics = _process.run(model=1)
    with np.load(output) as together:
        leaves = jax.tree.leaves(state)
        assert together["loss_scale"] == float(metrics["loss_scale"]) == 4.0
        for number, leaf in enumerate(leaves):
            np.testing.assert_allclose(together[str(number)], np.asarray(leaf), **TOLERANCE)
