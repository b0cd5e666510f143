"""Joining the processes of one run: flags, the environment, and two real processes."""

import json
import os
import socket
import subprocess
import sys

import pytest

from experiments._distributed import initialize_arguments

PROGRAM = """
import json, pathlib
import jax, numpy as np
from absl import app, flags
from jax.experimental import multihost_utils
from experiments import _distributed

def main(argv):
    _distributed.initialize()
    number = np.float32(10 + jax.process_index())
    total = float(multihost_utils.process_allgather(number).sum())
    numbers = [jax.process_count(), jax.device_count(), jax.local_device_count(), total]
    (pathlib.Path(__file__).parent / f"{jax.process_index()}.json").write_text(json.dumps(numbers))

_distributed.define_flags()
app.run(main)
"""


def _arguments(distributed="auto", address=None, count=None, number=None, **environment):
    return initialize_arguments(distributed, address, count, number, environment)


def test_one_process_unless_something_says_otherwise():
    assert _arguments() is None
    assert _arguments("off", SLURM_STEP_NUM_TASKS="4") is None
    # A batch script's own step, or a job of one task.
    assert _arguments(SLURM_JOB_ID="3", SLURM_NTASKS="4") is None
    assert _arguments(SLURM_STEP_NUM_TASKS="1", OMPI_COMM_WORLD_SIZE="1") is None
    assert _arguments(TPU_WORKER_HOSTNAMES="localhost") is None


@pytest.mark.parametrize(
    "environment",
    [
        {"SLURM_STEP_NUM_TASKS": "2"},
        {"OMPI_COMM_WORLD_SIZE": "8"},
        {"TPU_WORKER_HOSTNAMES": "a,b"},
        {"MEGASCALE_NUM_SLICES": "2"},
    ],
)
def test_a_job_of_several_processes_is_joined(environment):
    assert _arguments(**environment) == {}


def test_what_is_given_by_hand_counts():
    expected = {"coordinator_address": "host:1234", "num_processes": 2, "process_id": 0}
    assert _arguments("auto", "host:1234", 2, 0) == expected
    assert _arguments("on", "[::1]:1234", 1, 0)["coordinator_address"] == "[::1]:1234"
    assert _arguments("on") == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("auto", "host:1"), "also needs --num_processes, --process_id"),
        (("auto", None, 2, 1), "also needs --coordinator_address"),
        (("on", None, None, 0), "also needs --coordinator_address, --num_processes"),
        (("auto", "host", 2, 0), "coordinator_address='host' must be HOST:PORT"),
        (("auto", "host:0", 2, 0), "coordinator_address='host:0' must be HOST:PORT"),
        (("auto", "host:x", 2, 0), "must be HOST:PORT"),
        (("auto", "host:1", 0, 0), "num_processes=0 must be at least 1"),
        (("auto", "host:1", 2, 2), "process_id=2 must be from 0 to 1"),
        (("auto", "host:1", 2, -1), "process_id=-1 must be from 0 to 1"),
        (("off", "host:1", 2, 0), "--distributed=off takes no coordinator"),
    ],
)
def test_contradictions_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        _arguments(*arguments)


def test_two_processes_agree_on_a_sum(tmp_path, repository):
    (tmp_path / "program.py").write_text(PROGRAM)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    environment = {
        **os.environ,
        "PYTHONPATH": str(repository),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    command = [sys.executable, tmp_path / "program.py", f"--coordinator_address=127.0.0.1:{port}"]
    processes = [
        subprocess.Popen(
            [*command, "--num_processes=2", f"--process_id={number}"],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    try:
        results = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for number, (_, errors) in enumerate(results):
        assert processes[number].returncode == 0, errors
        # Not from standard output, where the collectives' library writes too.
        assert json.loads((tmp_path / f"{number}.json").read_text()) == [2, 4, 2, 21.0]
