"""Times the force sums beside others, on a CPU or a GPU: the paper's table, again.

    python -m experiments.nbody.benchmark
    python -m experiments.nbody.benchmark --numbers=1024,16384,262144,1048576

For every law and number of bodies: interactions a second, and GFLOPS by the paper's count of
operations. On a CPU, gravity is also summed by numba (`parallel=True, fastmath=True`) and by numpy;
on a GPU, up to 65,536 bodies by plain XLA, and by `all_pairs.cu`, which is built where nvcc is at
hand. Contestants take turns, and each ratio is the median of the ratios within a turn. Writes the
record `nbody_speed_cpu` or `nbody_speed_gpu`, and a picture beside it.

JAX runs a loop on one core of a CPU, so it gets one device for each core, and the bodies are split
over them. A CPU's vectors are 256 bits wide by JAX's choice; "512-bit" asks for more.
"""

import functools
import importlib
import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from absl import app, flags
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from rich.console import Console
from rich.progress import track
from rich.table import Table

from deepaudio.kernels import nbody
from experiments import _arguments, records
from experiments._turns import Run, take_turns
from experiments.nbody.machine_code import SLOTS

SOFTENING = 1e-2
# Operations of an interaction as the paper counts them, and its GFLOPS on an ATI X1900XTX.
PAPER = {
    "gravity": (19, 94.3),
    "gravity_and_jerk": (42, 53.5),
    "lennard_jones_coulomb_constant": (30, 77.6),
    "lennard_jones_coulomb_linear": (30, 79.5),
    "lennard_jones_coulomb_sigmoidal": (43, 90.3),
}
_WIDE = {"xla_cpu_prefer_vector_width": 512}
_BUDGET_BYTES = 2**30
# Bodies; XLA launches kernels for every pair of tiles, seconds for more.
_MOST_BY_XLA = 2**16


def bodies(number: int) -> dict[str, np.ndarray]:
    """Random bodies and atoms, float32: a sphere for gravity, a lattice for molecules."""
    rng = np.random.default_rng(0)
    side = int(np.ceil(number ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)
    found = {
        "positions": rng.normal(0, 1, (number, 3)),
        "velocities": rng.normal(0, 1, (number, 3)),
        "masses": np.full(number, 1 / number),
        "places": 3.0 * grid[:number] + rng.normal(0, 0.1, (number, 3)),
        "charges": rng.choice([-1.0, 1.0], number),
        "sigmas": np.full(number, 2.5),
        "epsilons": np.full(number, 0.2),
    }
    return {name: value.astype(np.float32) for name, value in found.items()}


def law(name: str, **options: Any) -> tuple[Callable[..., Any], tuple[str, ...]]:
    """A force law by its name in the paper's table, and the arrays of `bodies` that it takes."""
    if name == "gravity":
        function = functools.partial(nbody.gravity, softening=SOFTENING, **options)
        return function, ("positions", "masses")
    if name == "gravity_and_jerk":
        function = functools.partial(nbody.gravity_and_jerk, softening=SOFTENING, **options)
        return function, ("positions", "velocities", "masses")
    dielectric = name.rpartition("_")[2]
    function = functools.partial(nbody.lennard_jones_coulomb, dielectric=dielectric, **options)
    return function, ("places", "charges", "sigmas", "epsilons")


def jax_run(name: str, arrays: dict[str, np.ndarray], *, wide: bool = False, **options) -> Run:
    """A compiled law over all devices, ready to be timed."""
    mesh = Mesh(np.array(jax.devices()), ("bodies",))
    split = PartitionSpec("bodies")
    function, names = law(name, axis_name="bodies", **options)
    place = NamedSharding(mesh, split)
    placed = [jax.device_put(arrays[each], place) for each in names]
    spread = jax.shard_map(function, mesh=mesh, in_specs=split, out_specs=split)
    compiled = jax.jit(spread).lower(*placed).compile(_WIDE if wide else None)
    return lambda: jax.block_until_ready(compiled(*placed))


def numba_run(arrays: dict[str, np.ndarray]) -> Run:
    """Gravity by numba on all cores, with the arithmetic in any order."""
    numba = importlib.import_module("numba")

    @numba.njit(parallel=True, fastmath=True)
    def accelerate(positions, masses, square, accelerations):
        for i in numba.prange(masses.size):
            x, y, z = np.float32(0), np.float32(0), np.float32(0)
            for j in range(masses.size):
                dx = positions[0, j] - positions[0, i]
                dy = positions[1, j] - positions[1, i]
                dz = positions[2, j] - positions[2, i]
                inverse = np.float32(1) / np.sqrt(dx * dx + dy * dy + dz * dz + square)
                pull = masses[j] * inverse * inverse * inverse
                x += pull * dx
                y += pull * dy
                z += pull * dz
            accelerations[0, i], accelerations[1, i], accelerations[2, i] = x, y, z

    positions = np.ascontiguousarray(arrays["positions"].T)
    found = np.empty_like(positions)

    def run():
        accelerate(positions, arrays["masses"], np.float32(SOFTENING**2), found)
        return found

    return run


def numpy_run(arrays: dict[str, np.ndarray], rows: int = 256) -> Run:
    """Gravity by numpy, some targets at a time."""
    x, y, z = np.ascontiguousarray(arrays["positions"].T)
    masses = arrays["masses"]

    def run():
        found = []
        for start in range(0, len(masses), rows):
            mine = slice(start, start + rows)
            dx, dy, dz = (axis[None] - axis[mine, None] for axis in (x, y, z))
            pull = masses * (dx * dx + dy * dy + dz * dz + np.float32(SOFTENING**2)) ** -1.5
            found.append([(pull * part).sum(1) for part in (dx, dy, dz)])
        return np.concatenate(found, axis=1)

    return run


def rows_of(
    name: str, number: int, seconds: dict[str, list[float]], share_of: float | None
) -> list[dict[str, Any]]:
    """A row for each contestant; the first is ours."""
    ours = next(iter(seconds.values()))
    operations, paper = PAPER[name]
    rows = []
    for contestant, times in seconds.items():
        rate = number**2 / statistics.median(times)
        row = {
            "law": name,
            "number": number,
            "contestant": contestant,
            "billion_interactions_per_second": rate / 1e9,
            "gflops_by_the_papers_count": operations * rate / 1e9,
            "papers_gflops_x1900xtx": paper,
            "ours_is_faster_times": statistics.median(
                theirs / mine for theirs, mine in zip(times, ours, strict=True)
            ),
            "all_seconds": [round(value, 6) for value in times],
        }
        if share_of is not None:
            row["share_of_issue_slots"] = rate / share_of
        rows.append(row)
    return rows


def measure_cpu(numbers: list[int], repetitions: int) -> list[dict[str, Any]]:
    """Every law at every number; gravity beside numba and numpy."""
    rows = []
    cases = [(name, number) for number in numbers for name in PAPER]
    for name, number in track(cases, "timing", console=Console(stderr=True)):
        number -= number % jax.device_count()
        arrays = bodies(number)
        runs = {"deepaudio": jax_run(name, arrays)}
        runs["deepaudio, 512-bit"] = jax_run(name, arrays, wide=True)
        if name == "gravity":
            if importlib.util.find_spec("numba"):
                runs["numba"] = numba_run(arrays)
            runs["numpy"] = numpy_run(arrays)
        rows += rows_of(name, number, take_turns(runs, repetitions), None)
    return rows


def measure_gpu(numbers: list[int], repetitions: int) -> list[dict[str, Any]]:
    """Every law at every number, beside plain XLA and, for gravity, CUDA C++."""
    rows = []
    ceilings = {"gravity": SLOTS / 13}
    with tempfile.TemporaryDirectory() as folder:
        program = build_cuda(Path(folder))
        cases = [(name, number) for number in numbers for name in PAPER]
        for name, number in track(cases, "timing", console=Console(stderr=True)):
            arrays = bodies(number)
            runs = {"deepaudio": jax_run(name, arrays, implementation="mosaic_gpu")}
            if number <= _MOST_BY_XLA:
                runs["XLA"] = jax_run(name, arrays, implementation="xla")
            seconds = take_turns(runs, repetitions)
            if name == "gravity" and program and number % 256 == 0:
                seconds["CUDA C++"] = run_cuda(program, number, repetitions)
            rows += rows_of(name, number, seconds, ceilings.get(name))
    return rows


def build_cuda(folder: Path) -> Path | None:
    """Builds `all_pairs.cu`; None, with a word on stderr, where that cannot be done."""
    compiler = shutil.which("nvcc")
    if compiler is None:
        print("nvcc was not found: CUDA C++ is left out", file=sys.stderr)
        return None
    program = folder / "all_pairs"
    source = Path(__file__).with_name("all_pairs.cu")
    command = [compiler, "-O3", "-use_fast_math", "-arch=native", source, "-o", program]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(f"nvcc failed, CUDA C++ is left out: {done.stderr.strip()}", file=sys.stderr)
        return None
    return program


def run_cuda(program: Path, number: int, repetitions: int) -> list[float]:
    """Seconds of every repetition of the CUDA program."""
    command = [program, str(number), str(repetitions)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(line) for line in done.stdout.split()[:-1]]


def memory(number: int) -> dict[str, Any]:
    """Bytes that gravity needs beside the bodies themselves, as compiled."""
    positions = jax.ShapeDtypeStruct((number, 3), jnp.float32)
    masses = jax.ShapeDtypeStruct((number,), jnp.float32)
    function = functools.partial(nbody.gravity, softening=SOFTENING)
    found = jax.jit(function).lower(positions, masses).compile().memory_analysis()
    needed = found.temp_size_in_bytes + found.output_size_in_bytes
    return {"number": number, "bytes": needed, "within_a_gibibyte": needed < _BUDGET_BYTES}


def picture(rows: list[dict[str, Any]], path: Path) -> None:
    """Draws interactions a second of every contestant and law as bars."""
    most = max(row["number"] for row in rows)
    shown = [row for row in rows if row["number"] == most]
    figure, axes = plt.subplots(figsize=(9, 1 + 0.35 * len(shown)), layout="constrained")
    names = [f"{row['law'].replace('_', ' ')}: {row['contestant']}" for row in shown]
    ours = ["C0" if row["contestant"].startswith("deepaudio") else "C7" for row in shown]
    axes.barh(names, [row["billion_interactions_per_second"] for row in shown], color=ours)
    axes.invert_yaxis()
    axes.set_xlabel(f"interactions a second, billions, {most:,} bodies")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _print(rows):
    table = Table(title="all pairs of bodies")
    for column in ("law", "bodies", "contestant", "G interactions/s", "GFLOPS", "ours: times"):
        table.add_column(column, justify="left" if column in ("law", "contestant") else "right")
    for row in rows:
        table.add_row(
            row["law"],
            f"{row['number']:,}",
            row["contestant"],
            f"{row['billion_interactions_per_second']:.3f}",
            f"{row['gflops_by_the_papers_count']:.1f}",
            f"{row['ours_is_faster_times']:.2f}",
        )
    Console().print(table)


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_list("numbers", None, "Bodies; 16384 on a CPU, 1024 to 1048576 on a GPU.")
    flags.DEFINE_integer("repetitions", 5, "Timed turns.", lower_bound=1)
    flags.DEFINE_string("picture", None, "A file for the picture; none if not given.")


def main(argv: list[str]) -> None:
    """Measures and writes the record."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    given = flags.FLAGS
    jax.config.update("jax_num_cpu_devices", os.cpu_count())
    platform = jax.default_backend()
    default = [16384] if platform == "cpu" else [2**power for power in range(10, 21, 2)]
    try:
        numbers = [int(number) for number in given.numbers or default]
    except ValueError:
        _arguments.fail(f"--numbers={','.join(given.numbers)}: needs whole numbers")
    measure = measure_gpu if platform == "gpu" else measure_cpu
    rows = measure(numbers, given.repetitions)
    _print(rows)
    if given.picture:
        picture(rows, Path(given.picture))
    path = records.write_record(
        f"nbody_speed_{platform}",
        None,
        rows,
        description="Interactions a second of the O(N^2) force sums",
        memory=memory(100_000),
    )
    print(f"wrote {path}")


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
