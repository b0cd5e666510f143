"""One run on several hosts: flags of the launchers that join its processes.

JAX's own runtime does the work: `jax.distributed.initialize` knows Slurm, Open MPI, Kubernetes and
TPU pods. See docs/launchers.md for what to type where.
"""

import os
from collections.abc import Mapping
from typing import Any

import jax
from absl import flags

# Variables that say how many processes the launched job has.
_PROCESS_COUNTS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "MEGASCALE_NUM_SLICES")
_TPU_WORKERS = "TPU_WORKER_HOSTNAMES"

# The flags belong to the launcher that defines them, and stand in its --help.
flags.disclaim_key_flags()


def define_flags() -> None:
    """Defines the flags that `initialize` reads."""
    flags.DEFINE_enum(
        "distributed",
        "auto",
        ["auto", "on", "off"],
        "Whether this process is one of several of the same run: auto joins them if the next three "
        "flags, srun, mpirun or a TPU pod's variables say so; on asks JAX to find the cluster.",
    )
    flags.DEFINE_string(
        "coordinator_address", None, "HOST:PORT where process 0 can be reached by all processes."
    )
    flags.DEFINE_integer("num_processes", None, "Processes of the run.")
    flags.DEFINE_integer("process_id", None, "Which of them this one is, from 0.")


def initialize() -> None:
    """Joins the run's processes if there are several; call it before any device is used.

    Raises:
        ValueError: The flags contradict each other, or no cluster is found.
        OSError: The other processes cannot be reached.
    """
    values = flags.FLAGS
    arguments = initialize_arguments(
        values.distributed,
        values.coordinator_address,
        values.num_processes,
        values.process_id,
        os.environ,
    )
    if arguments is None:
        return
    try:
        jax.distributed.initialize(**arguments)
    except ValueError as error:
        raise ValueError(f"--distributed={values.distributed}: no cluster found: {error}") from None
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise OSError(f"the processes of this run did not find each other: {reason}") from None


def initialize_arguments(
    distributed: str,
    coordinator_address: str | None,
    num_processes: int | None,
    process_id: int | None,
    environment: Mapping[str, str],
) -> dict[str, Any] | None:
    """What to call `jax.distributed.initialize` with.

    Args:
        distributed: "auto", "on" or "off".
        coordinator_address: HOST:PORT of process 0, or None.
        num_processes: Processes of the run, or None.
        process_id: Which of them this one is, or None.
        environment: The environment's variables.

    Returns:
        The arguments, none of them if JAX is to find the cluster; None for a single process.

    Raises:
        ValueError: The arguments contradict each other.
    """
    given = {
        "coordinator_address": coordinator_address,
        "num_processes": num_processes,
        "process_id": process_id,
    }
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == len(given):
        joins = distributed == "on" or (distributed == "auto" and _is_one_of_many(environment))
        return {} if joins else None
    if distributed == "off":
        raise ValueError("--distributed=off takes no coordinator, process count or process number")
    if missing:
        flags_missing = ", ".join(f"--{name}" for name in missing)
        raise ValueError(f"a run joined by hand also needs {flags_missing}")
    host, colon, port = coordinator_address.rpartition(":")
    if not (host and colon and port.isdecimal() and 0 < int(port) < 2**16):
        raise ValueError(f"{coordinator_address=} must be HOST:PORT")
    if num_processes < 1:
        raise ValueError(f"{num_processes=} must be at least 1")
    if not 0 <= process_id < num_processes:
        raise ValueError(f"{process_id=} must be from 0 to {num_processes - 1}, {num_processes=}")
    return given


def _is_one_of_many(environment: Mapping[str, str]) -> bool:
    counts = [environment.get(name, "") for name in _PROCESS_COUNTS]
    if any(count.isdecimal() and int(count) > 1 for count in counts):
        return True
    return "," in environment.get(_TPU_WORKERS, "")
