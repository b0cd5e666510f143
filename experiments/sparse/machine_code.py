"""Counts what the sparse product costs on a GPU, on any machine, and predicts its time.

    python -m experiments.sparse.machine_code

Packs random matrices of the sizes of arXiv 1704.05119, compiles the product for an NVIDIA H200
(nothing runs, no GPU is needed) and reads what ptxas made of it: registers, spills, shared memory,
and the instructions of the loop over nonzeros. Needs the extra `gpu` and
`nvidia-cuda-nvdisasm`. Writes the record `sparse_machine_code`.

The prediction is a fixed time (launch, the first bytes' way, the sums at the end; assumed, not
counted) and the longest of three that run side by side:

- memory: the packed bytes at 4.8 TB/s (the vectors, read again for every block, are in a cache);
- shared memory: its passes. Lanes of a warp that gather from one bank wait for each other; how
  many do is counted from the packed indices themselves;
- instructions: those of the loop, on four schedulers.

Shared memory and instructions count for the busiest multiprocessor. The dense product's prediction
is its bytes at nine tenths of that bandwidth, and a launch.
"""

import collections
import math
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from rich.console import Console
from rich.progress import track
from rich.table import Table

from deepaudio.kernels import sparse
from deepaudio.kernels.sparse import mosaic_gpu
from experiments import _arguments, _machine_code, records

# (outputs, inputs): a GRU of 2560 and of 1760 units.
SHAPES = ((7680, 2560), (5280, 1760))
SPARSITIES = (0.90, 0.95)
BATCHES = (1, 2, 4)
BANDWIDTH = 4.8e12
_CORES, _CLOCK, _SCHEDULERS, _WARP, _BANKS = 132, 1.98e9, 4, 32, 32
# Assumed: what a launch takes where others are queued, and what begins and ends a product.
_LAUNCH, _FIRST_BYTES_AND_SUMS = 1.5e-6, 1.5e-6
_DENSE_SHARE = 0.9
_TABLE_WIDTH = 100


def draw(outputs: int, inputs: int, sparsity: float, seed: int = 0) -> np.ndarray:
    """A random (inputs, outputs) float32 matrix, entries zero independently of each other."""
    rng = np.random.default_rng(seed)
    kept = rng.random((inputs, outputs)) >= sparsity
    return np.where(kept, rng.normal(0, 0.1, kept.shape), 0).astype(np.float32)


def gather_passes(packed: sparse.PackedMatrix, vector: int) -> float:
    """Passes through shared memory that a warp's gather takes, on average.

    Args:
        packed: The matrix.
        vector: Neighbouring lanes in a thread, which take one gather each.

    Returns:
        The mean, over all gathers, of the most different words that one bank is asked for.
    """
    places = sparse.lane_inputs(packed).reshape(-1, sparse.LANES // (_WARP * vector), _WARP, vector)
    words = np.sort(np.swapaxes(places, 2, 3).reshape(-1, _WARP), axis=1)
    # The same word asked for twice is one access; duplicates go to banks of their own.
    repeated = np.pad(words[:, 1:] == words[:, :-1], ((0, 0), (1, 0)))
    rows = np.broadcast_to(np.arange(len(words))[:, None], words.shape)
    counts = np.zeros((len(words), _BANKS), np.int64)
    np.add.at(counts, (rows[~repeated], words[~repeated] % _BANKS), 1)
    return float(counts.max(axis=1).mean())


def measure(outputs: int, inputs: int, sparsity: float, batch: int) -> dict[str, Any]:
    """Compiles a product and predicts its time.

    Args:
        outputs: Length of the products.
        inputs: Length of the vectors.
        sparsity: Share of zeros.
        batch: Vectors.

    Returns:
        Sizes, what was compiled, and predictions in microseconds.

    Raises:
        RuntimeError: CUDA's compiler or disassembler is missing.
        ValueError: The loop over nonzeros was not found.
    """
    matrix = draw(outputs, inputs, sparsity)
    packed = sparse.pack(matrix)
    blocks, steps, _ = packed.values.shape
    config = sparse.KernelConfig.choose(steps)
    vectors = jax.ShapeDtypeStruct((batch, inputs), jnp.float32)
    made = _machine_code.compile_kernel(mosaic_gpu.matvec, (packed, vectors))
    mix = main_loop(made.code)
    instructions = mix.total() / (config.chunk * config.vector)
    nonzeros = np.count_nonzero(matrix)
    return {
        "outputs": outputs,
        "inputs": inputs,
        "sparsity": sparsity,
        "batch": batch,
        "bytes_a_nonzero": packed.nbytes / nonzeros,
        "blocks": blocks,
        "steps": steps,
        "instructions_a_nonzero": instructions,
        "registers": made.registers,
        "spilled_bytes": made.spilled_bytes,
        "shared_bytes": mosaic_gpu.shared_memory(packed, batch),
        **predict(packed, batch, instructions, config.vector),
        "mix": dict(mix.most_common()),
    }


def main_loop(code: str) -> collections.Counter[str]:
    """Counts the instructions of the loop over chunks of nonzeros.

    Args:
        code: Of the kernel, as `nvdisasm` prints it.

    Returns:
        How often each instruction stands in the shortest loop with fused multiply-adds.

    Raises:
        ValueError: There is none.
    """
    found = [mix for _, _, mix in _machine_code.loops(code) if mix["FFMA"]]
    if not found:
        raise ValueError("no loop multiplies and adds")
    return min(found, key=lambda mix: mix.total())


def predict(
    packed: sparse.PackedMatrix, batch: int, instructions: float, vector: int
) -> dict[str, float]:
    """Microseconds of a product, by part; see the module.

    Args:
        packed: The matrix.
        batch: Vectors.
        instructions: A nonzero of a lane.
        vector: Lanes of a thread.

    Returns:
        `memory_us`, `shared_memory_us`, `instructions_us`, `predicted_us`, `predicted_dense_us`,
        `predicted_times_dense` and `gather_passes`.
    """
    blocks, steps, lanes = packed.values.shape
    # Of a block, in warps: gathers for each vector, and values and deltas of a thread at once.
    passes = gather_passes(packed, vector)
    warps = steps * lanes / _WARP
    a_core = math.ceil(blocks / _CORES)
    parts = {
        "memory_us": packed.nbytes / BANDWIDTH * 1e6,
        "shared_memory_us": a_core * warps * (passes * batch + 2 / vector) / _CLOCK * 1e6,
        "instructions_us": a_core * warps * instructions / _SCHEDULERS / _CLOCK * 1e6,
    }
    predicted = (_LAUNCH + _FIRST_BYTES_AND_SUMS) * 1e6 + max(parts.values())
    dense = _LAUNCH + 2 * packed.inputs * packed.outputs / (_DENSE_SHARE * BANDWIDTH)
    return {
        **parts,
        "gather_passes": passes,
        "predicted_us": predicted,
        "predicted_dense_us": dense * 1e6,
        "predicted_times_dense": dense * 1e6 / predicted,
    }


def _print(rows):
    table = Table(title="the sparse product, compiled for an H200; times are predictions")
    columns = {
        "bytes/nz": ("bytes_a_nonzero", ".2f"),
        "instr/nz": ("instructions_a_nonzero", ".1f"),
        "regs": ("registers", "d"),
        "spilled": ("spilled_bytes", "d"),
        "shared": ("shared_bytes", "d"),
        "us": ("predicted_us", ".1f"),
        "dense": ("predicted_dense_us", ".1f"),
        "times": ("predicted_times_dense", ".1f"),
    }
    for column in ("matrix", "zero", "batch", *columns):
        table.add_column(column, justify="right")
    for row in rows:
        cells = (format(row[name], form) for name, form in columns.values())
        size = f"{row['outputs']}x{row['inputs']}"
        table.add_row(size, f"{row['sparsity']:.0%}", str(row["batch"]), *cells)
    Console(width=_TABLE_WIDTH).print(table)


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_string("record", "sparse_machine_code", "Name of the record.")
    flags.DEFINE_string("records", str(records.RECORDS), "Folder of the record.")


def main(argv: list[str]) -> None:
    """Counts and writes the record."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    given = flags.FLAGS
    _machine_code.prepare()
    cases = [(*shape, s, b) for shape in SHAPES for s in SPARSITIES for b in BATCHES]
    try:
        rows = [measure(*c) for c in track(cases, "compiling", console=Console(stderr=True))]
    except (RuntimeError, ValueError) as error:
        sys.exit(f"machine_code: {error}")
    _print(rows)
    path = records.write_record(
        given.record,
        None,
        rows,
        description="The sparse product compiled for an H200, with its time as predicted",
        directory=given.records,
    )
    print(f"wrote {path}")


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
