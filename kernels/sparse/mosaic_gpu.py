"""The product on NVIDIA GPUs of the Hopper generation and newer, in Pallas's Mosaic GPU.

A GPU block takes one block of lanes. Bulk copies bring all its values and deltas to shared memory
at once, in chunks, each of which is used as soon as it is there: so many bytes are under way over
the whole chip as a product of a few microseconds needs. Every thread goes through two lanes and
gathers the vector's elements from shared memory. Lanes' sums then go through shared memory, where
one thread adds up those of one output, in order: the same input gives the same output, bit for bit.
One launch does it all, as a second would take about as long as the work.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from deepaudio.kernels.sparse import _gpu_memory
from deepaudio.kernels.sparse._format import PackedMatrix
from deepaudio.kernels.sparse.config import BLOCK_OUTPUTS, LANES, KernelConfig

# What one block may have on an H100 or H200, and what is left for barriers.
_SHARED_MEMORY = 232448 - 1024
# The most elements of an axis, and the multiple of floats, that a bulk copy takes.
_COPY_WIDTH, _COPY_FLOATS = 256, 4


def is_supported() -> bool:
    """Whether the default device can run these kernels."""
    device = jax.devices()[0]
    return device.platform == "gpu" and _generation(device) >= 9


def fits(packed: PackedMatrix, batch: int) -> bool:
    """Whether shared memory holds so many vectors and a block of lanes."""
    return shared_memory(packed, batch) <= _SHARED_MEMORY


def _generation(device):
    """Major number of the CUDA compute capability; 0 if it has none."""
    capability = str(getattr(device, "compute_capability", ""))
    major = capability.partition(".")[0]
    return int(major) if major.isdigit() else 0


def matvec(
    packed: PackedMatrix,
    vectors: jax.Array,
    *,
    config: KernelConfig | None = None,
    interpret: object = None,
) -> jax.Array:
    """Multiplies vectors with a packed matrix.

    Args:
        packed: (inputs, outputs).
        vectors: (batch, inputs) float32.
        config: Sizes; None for a choice by the steps of a lane.
        interpret: As Pallas takes it, to run on a CPU; None to compile.

    Returns:
        (batch, outputs) float32.

    Raises:
        ValueError: Shared memory does not hold the vectors and a block of lanes, or the steps are
            no multiple of the chunk.
    """
    blocks, steps, _ = packed.values.shape
    config = config or KernelConfig.choose(steps)
    if steps % config.chunk:
        raise ValueError(f"{steps=} must be a multiple of chunk={config.chunk}")
    batch = vectors.shape[0]
    if not fits(packed, batch):
        raise ValueError(
            f"{batch} vectors of {packed.inputs} and lanes of {steps} need "
            f"{shared_memory(packed, batch)} bytes of shared memory, which must be at most "
            f"{_SHARED_MEMORY}: use implementation='xla'"
        )
    vectors = _in_rows(vectors)
    kernel = plgpu.kernel(
        functools.partial(_body, config, interpret),
        out_type=jax.ShapeDtypeStruct((batch, packed.outputs), jnp.float32),
        grid=(blocks,),
        grid_names=("block",),
        scratch_types=[
            plgpu.SMEM((steps, LANES), packed.values.dtype),
            plgpu.SMEM((steps, LANES), jnp.uint8),
            plgpu.SMEM(vectors.shape, jnp.float32),
            plgpu.SMEM((batch, LANES), jnp.float32),
            plgpu.Barrier(num_barriers=2 * (steps // config.chunk)),
            plgpu.Barrier(),
        ],
        kernel_name="sparse_matvec",
        interpret=interpret,
    )
    return kernel(
        packed.block_outputs, packed.block_lanes, packed.values, packed.deltas, packed.pages,
        packed.first_lanes, packed.num_lanes, vectors,
    )  # fmt: skip


def shared_memory(packed: PackedMatrix, batch: int) -> int:
    """Bytes of shared memory a block needs beside its barriers.

    Args:
        packed: The matrix.
        batch: Vectors.
    """
    _, steps, _ = packed.values.shape
    rows, width = _row_shape(packed.inputs)
    return 3 * steps * LANES + 4 * batch * (rows * width + LANES)


def _row_shape(inputs):
    """Rows and width that a vector is cut into for one bulk copy; with room left if none fit."""
    for width in range(_COPY_WIDTH, 0, -_COPY_FLOATS):
        if inputs % width == 0 and inputs // width <= _COPY_WIDTH:
            return inputs // width, width
    return -(-inputs // _COPY_WIDTH), _COPY_WIDTH


def _in_rows(vectors):
    """(batch, inputs) to (batch, rows, width), zeros where there is room left."""
    batch, inputs = vectors.shape
    rows, width = _row_shape(inputs)
    padded = jnp.pad(vectors, ((0, 0), (0, rows * width - inputs)))
    return padded.reshape(batch, rows, width)


class _Outputs(NamedTuple):
    """What the threads of a block know of its outputs, an output a thread.

    Attributes:
        place: Which output, -1 in threads without one.
        first: Its first lane in the block.
        count: Its lanes, 0 in threads without an output.
        most: The most lanes of any, a scalar.
    """

    place: jax.Array
    first: jax.Array
    count: jax.Array
    most: jax.Array


def _body(
    config, interpret, block_outputs, block_lanes, values, deltas, pages, first_lanes, num_lanes,
    vectors, out, values_here, deltas_here, vectors_here, sums_here, arrived, vectors_arrived,
):  # fmt: skip
    """One block of lanes."""
    block = jax.lax.axis_index("block")
    chunks = values_here.shape[0] // config.chunk
    for chunk in range(chunks):
        for number, (source, here) in enumerate(((values, values_here), (deltas, deltas_here))):
            steps = pl.ds(chunk * config.chunk, config.chunk)
            barrier = arrived.at[2 * chunk + number]
            plgpu.copy_gmem_to_smem(source.at[block, steps], here.at[steps], barrier)
        if chunk == 0:
            plgpu.copy_gmem_to_smem(vectors, vectors_here, vectors_arrived)
    layout = plgpu.Layout.WG_STRIDED((LANES,), vec_size=config.vector)
    memory = _gpu_memory.make(layout, LANES, interpret)
    # All that is read straight from global memory is under way before the first wait.
    page = plgpu.load(pages.at[block], layout=layout).astype(jnp.int32)
    outputs = _read_outputs(block, block_outputs, block_lanes, first_lanes, num_lanes)
    plgpu.barrier_wait(vectors_arrived)
    batch = vectors_here.shape[0]

    def add_chunk(chunk, state):
        place, sums = state
        for number in range(2):
            plgpu.barrier_wait(arrived.at[2 * chunk + number])
        for number in range(config.chunk):
            step = chunk * config.chunk + number
            place = place + plgpu.load(deltas_here.at[step], layout=layout).astype(jnp.int32)
            value = plgpu.load(values_here.at[step], layout=layout).astype(jnp.float32)
            taken = [memory.gather(vectors_here.at[row], place) for row in range(batch)]
            sums = tuple(a + value * b for a, b in zip(sums, taken, strict=True))
        return place, sums

    zero = plgpu.layout_cast(jnp.zeros((LANES,), jnp.float32), layout)
    _, sums = jax.lax.fori_loop(0, chunks, add_chunk, (256 * page, (zero,) * batch))
    # A store to shared memory ends in a barrier of the block's threads.
    for row, total in enumerate(sums):
        sums_here[row] = total
    _add_lanes(interpret, outputs, sums_here, out)


_OUTPUT_LAYOUT = plgpu.Layout.WG_STRIDED((BLOCK_OUTPUTS,), vec_size=1)


def _read_outputs(block, block_outputs, block_lanes, first_lanes, num_lanes):
    start, end = block_outputs[block], block_outputs[block + 1]
    mine = pl.ds(start, BLOCK_OUTPUTS)
    first = plgpu.load(first_lanes.at[mine], layout=_OUTPUT_LAYOUT) - block * LANES
    count = plgpu.load(num_lanes.at[mine], layout=_OUTPUT_LAYOUT)
    place = start + plgpu.broadcasted_iota(jnp.int32, (BLOCK_OUTPUTS,), 0, layout=_OUTPUT_LAYOUT)
    # Threads beyond the block's outputs hold those of the next.
    inside = place < end
    return _Outputs(
        jnp.where(inside, place, jnp.full_like(place, -1)),
        jnp.where(inside, first, jnp.zeros_like(first)),
        jnp.where(inside, count, jnp.zeros_like(count)),
        block_lanes[block],
    )


def _add_lanes(interpret, outputs, sums_here, out):
    """The sums of one block's outputs: a thread adds up the lanes of its output, in order."""
    memory = _gpu_memory.make(_OUTPUT_LAYOUT, BLOCK_OUTPUTS, interpret)
    batch = sums_here.shape[0]

    def add(number, totals):
        lane = jnp.minimum(outputs.first + number, jnp.full_like(outputs.first, LANES - 1))
        counts = number < outputs.count
        return tuple(
            total + jnp.where(counts, memory.gather(sums_here.at[row], lane), zero)
            for row, total in enumerate(totals)
        )

    zero = plgpu.layout_cast(jnp.zeros((BLOCK_OUTPUTS,), jnp.float32), _OUTPUT_LAYOUT)
    totals = jax.lax.fori_loop(0, outputs.most, add, (zero,) * batch)
    for row, total in enumerate(totals):
        memory.scatter(out.at[row], outputs.place, total)
