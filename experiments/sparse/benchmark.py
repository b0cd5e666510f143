"""Times products with packed matrices beside dense ones, on a CPU or a GPU.

    python -m experiments.sparse.benchmark

Random matrices of the sizes and sparsities of arXiv 1704.05119, with 1, 2 and 4 vectors.
Contestants take turns, and each ratio is the median of the ratios within a turn. Writes the record
`sparse_speed_cpu` or `sparse_speed_gpu`.

On a CPU: against the jitted float32 product (bfloat16 is slower there) and scipy's CSR, alone; and
against the dense product inside a scan, whose steps depend on each other, as in a recurrent layer.
On a GPU: against cuBLAS's bfloat16 product. Each goes through as many copies of its matrix as make
120 MB packed, so that none is in a cache; in a product of one network's layers it is not either.
"""

import functools
import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from absl import app, flags
from rich.console import Console
from rich.progress import track
from rich.table import Table

from deepaudio.kernels import sparse
from experiments import _arguments, records
from experiments._turns import Run, take_turns
from experiments.sparse.machine_code import BATCHES, SHAPES, SPARSITIES, draw

# NVIDIA's data sheets, bytes a second.
_BANDWIDTHS = {"NVIDIA H200": 4.8e12, "NVIDIA H100 80GB HBM3": 3.35e12}
_COLD_BYTES = 120e6
# Products in one timed run; how often it goes through all copies on a GPU.
_CPU_PRODUCTS = 10
GPU_ROUNDS = 30
_TABLE_WIDTH = 100

Product = Callable[[Any, jax.Array], jax.Array]


def dense(matrix: jax.Array, vectors: jax.Array) -> jax.Array:
    """The dense product, summed in float32."""
    return jnp.matmul(vectors.astype(matrix.dtype), matrix, preferred_element_type=jnp.float32)


def repeated(multiply: Product, matrix: Any, vectors: jax.Array, number: int) -> Run:
    """Calls a compiled product so many times; nothing of one depends on another."""
    compiled = jax.jit(multiply)
    placed = jax.device_put((matrix, vectors))

    def run():
        for _ in range(number):
            found = jax.block_until_ready(compiled(*placed))
        return found

    return run


def scanned(multiply: Product, matrix: Any, vectors: jax.Array, number: int) -> Run:
    """A scan of so many steps, each a product and the least arithmetic that needs all of it."""
    inputs = vectors.shape[1]

    @jax.jit
    def run(matrix, vectors):
        def step(hidden, _):
            product = jax.lax.optimization_barrier(multiply(matrix, hidden))
            blocks = product.reshape(len(hidden), -1, inputs)
            return jnp.tanh(blocks.sum(axis=1)), None

        return jax.lax.scan(step, vectors, None, length=number)[0]

    placed = jax.device_put((matrix, vectors))
    return lambda: jax.block_until_ready(run(*placed))


def in_turn(
    multiply: Product, matrix: Any, vectors: jax.Array, number: int, rounds: int = 1
) -> Run:
    """Products with so many copies of a matrix, one after another in one program, and their sum.

    Rounds are repetitions within the program, so that what a call costs is shared by many products.
    """
    copies = [jax.tree.map(jnp.copy, jax.device_put(matrix)) for _ in range(number)]
    multiply = jax.jit(multiply)  # a kernel in a function of its own is compiled once for all

    @jax.jit
    def run(copies, vectors):
        def once(_, carry):
            vectors, total = carry
            found = []
            for copy in copies:
                found.append(multiply(copy, vectors))
                # No product may be merged with the next, begin before it, or leave the loop.
                vectors, found[-1] = jax.lax.optimization_barrier((vectors, found[-1]))
            return vectors, sum(found, total)

        shape = jax.eval_shape(multiply, copies[0], vectors)
        return jax.lax.fori_loop(0, rounds, once, (vectors, jnp.zeros(shape.shape, shape.dtype)))

    placed = jax.device_put(vectors)
    return lambda: jax.block_until_ready(run(copies, placed))


def csr_run(matrix: np.ndarray, vectors: np.ndarray, number: int) -> Run:
    """The product of scipy with a matrix in compressed sparse rows, one row an output."""
    packed = scipy.sparse.csr_array(matrix.T)
    columns = np.ascontiguousarray(vectors.T)

    def run():
        for _ in range(number):
            found = packed @ columns
        return found.T

    return run


def rows_of(
    case: dict[str, Any], setting: str, seconds: dict[str, list[float]], number: int
) -> list[dict[str, Any]]:
    """A row for each contestant; the first is ours, the second the dense product.

    Args:
        case: What all rows say.
        setting: How products were run.
        seconds: Of every turn, by contestant.
        number: Products in a turn.
    """
    ours = next(iter(seconds.values()))
    rows = []
    for contestant, times in seconds.items():
        ratios = [theirs / mine for theirs, mine in zip(times, ours, strict=True)]
        rows.append(
            {
                **case,
                "setting": setting,
                "contestant": contestant,
                "microseconds": statistics.median(times) / number * 1e6,
                "ours_is_faster_times": statistics.median(ratios),
                "least_times": min(ratios),
                "most_times": max(ratios),
                "all_microseconds": [round(value / number * 1e6, 2) for value in times],
            }
        )
    return rows


@functools.lru_cache(maxsize=1)
def _matrix(outputs, inputs, sparsity):
    matrix = draw(outputs, inputs, sparsity)
    return matrix, sparse.pack(matrix)


def _case(outputs, inputs, sparsity, batch):
    matrix, packed = _matrix(outputs, inputs, sparsity)
    vectors = np.random.default_rng(1).normal(0, 1, (batch, inputs)).astype(np.float32)
    names = {"outputs": outputs, "inputs": inputs, "sparsity": sparsity, "batch": batch}
    return {**names, "largest_error": error(packed, vectors)}, matrix, vectors, packed


def error(packed: sparse.PackedMatrix, vectors: np.ndarray) -> float:
    """The largest error of our product, relative to the largest element of the exact one."""
    exact = vectors.astype(np.float64) @ sparse.unpack(packed)
    return float(
        np.abs(jax.jit(sparse.matvec)(packed, vectors) - exact).max() / np.abs(exact).max()
    )


def measure_cpu(cases: list[tuple], repetitions: int) -> list[dict[str, Any]]:
    """Every case alone and in a scan."""
    rows = []
    for given in track(cases, "timing", console=Console(stderr=True)):
        case, matrix, vectors, packed = _case(*given)
        settings = {"alone": repeated}
        if case["outputs"] % case["inputs"] == 0:
            settings["in a scan"] = scanned
        for setting, run in settings.items():
            runs = {
                "deepaudio": run(sparse.matvec, packed, vectors, _CPU_PRODUCTS),
                "dense float32": run(dense, matrix, vectors, _CPU_PRODUCTS),
            }
            if setting == "alone":
                runs["scipy CSR"] = csr_run(matrix, vectors, _CPU_PRODUCTS)
            rows += rows_of(case, setting, take_turns(runs, repetitions), _CPU_PRODUCTS)
    return rows


def measure_gpu(cases: list[tuple], repetitions: int) -> list[dict[str, Any]]:
    """Every case with matrices that no cache holds, and the share of memory bandwidth."""
    rows = []
    bandwidth = _BANDWIDTHS.get(jax.devices()[0].device_kind)
    for given in track(cases, "timing", console=Console(stderr=True)):
        case, matrix, vectors, packed = _case(*given)
        number = -(-int(_COLD_BYTES) // packed.nbytes)
        half = jnp.asarray(matrix, jnp.bfloat16)
        multiply = functools.partial(sparse.matvec, implementation="mosaic_gpu")
        runs = {
            "deepaudio": in_turn(multiply, packed, vectors, number, GPU_ROUNDS),
            "dense bfloat16": in_turn(dense, half, vectors.astype(half.dtype), number, GPU_ROUNDS),
        }
        products = number * GPU_ROUNDS
        found = rows_of(case, "in turn", take_turns(runs, repetitions), products)
        for row, size in zip(found, (packed.nbytes, half.nbytes), strict=True):
            row["bytes"] = size
            if bandwidth:
                rate = size / (1e-6 * row["microseconds"])
                row["share_of_memory_bandwidth"] = rate / bandwidth
        rows += found
    return rows


def _print(rows):
    table = Table(title="products with pruned matrices")
    columns = ("matrix", "zero", "batch", "setting", "contestant", "us", "ours: times", "spread")
    for column in columns:
        left = column in ("setting", "contestant")
        table.add_column(column, justify="left" if left else "right")
    for row in rows:
        table.add_row(
            f"{row['outputs']}x{row['inputs']}",
            f"{row['sparsity']:.0%}",
            str(row["batch"]),
            row["setting"],
            row["contestant"],
            f"{row['microseconds']:.1f}",
            f"{row['ours_is_faster_times']:.2f}",
            f"{row['least_times']:.2f}-{row['most_times']:.2f}",
        )
    Console(width=_TABLE_WIDTH).print(table)


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_integer("repetitions", 11, "Timed turns.", lower_bound=1)
    flags.DEFINE_list("batches", [str(batch) for batch in BATCHES], "Vectors.")
    flags.DEFINE_string("records", str(records.RECORDS), "Folder of the record.")


def main(argv: list[str]) -> None:
    """Measures and writes the record."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    given = flags.FLAGS
    try:
        batches = [int(batch) for batch in given.batches]
    except ValueError:
        _arguments.fail(f"--batches={','.join(given.batches)}: needs whole numbers")
    platform = jax.default_backend()
    measure = measure_gpu if platform == "gpu" else measure_cpu
    cases = [(*shape, s, batch) for shape in SHAPES for s in SPARSITIES for batch in batches]
    rows = measure(cases, given.repetitions)
    _print(rows)
    path = records.write_record(
        f"sparse_speed_{platform}",
        None,
        rows,
        description="Microseconds of a product with a packed matrix, beside dense ones",
        directory=given.records,
    )
    print(f"wrote {path}")


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
