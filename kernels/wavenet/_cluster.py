"""The GPU kernel for few streams: lays out its arrays, and launches it."""

import functools

import jax
import jax.numpy as jnp
from jax.experimental.pallas import mosaic_gpu as plgpu

from deepaudio.kernels.wavenet import _cluster_kernel
from deepaudio.kernels.wavenet._cluster_kernel import BLOCKS, HEAD
from deepaudio.kernels.wavenet._network import State, Weights, project
from deepaudio.kernels.wavenet._outputs import (
    Output,
    mu_law_decode,
    mu_law_encode,
    num_parameters,
)
from deepaudio.kernels.wavenet._packing import (
    chances,
    gate_tiles,
    split_rings,
    tiles,
    vector_tiles,
)
from deepaudio.kernels.wavenet.config import SHARED_BYTES, TILE, KernelConfig

# Layers of a block whose matrices there are registers for.
_DEPTH = 3


def fits(weights: Weights) -> bool:
    """Whether a network's matrices fit on a cluster of eight multiprocessors."""
    layers, gate, residual = weights.residual.shape
    if layers > BLOCKS * _DEPTH or max(gate, residual) > TILE:
        return False
    # Only sizes count here, not what is said of a sample.
    shape = _shape(weights, "mu_law", 1, False, False)
    return _cluster_kernel.shared_bytes(shape) <= SHARED_BYTES


def launch(
    weights: Weights,
    dilations: tuple[int, ...],
    conditioning: jax.Array,
    uniforms: jax.Array,
    state: State,
    *,
    output: Output,
    temperature: jax.Array,
    config: KernelConfig,
    debug: bool = False,
    interpret: object = None,
) -> tuple[jax.Array, State, jax.Array | None]:
    """One launch; arguments and results are those of `_streams.launch`."""
    del config  # Nothing to choose.
    batch, time = uniforms.shape[:2]
    shape = _shape(weights, output, time, debug, interpret is not None)
    before = mu_law_encode(state.sample) if shape.mu_law else state.sample
    ring = jax.new_ref(_ring(state.buffers))
    inputs = _cluster_kernel.Inputs(
        _places(dilations, shape),
        state.count.reshape(1),
        temperature.astype(jnp.float32).reshape(1),
        *_matrices(weights, shape),
        _conditioning(project(weights, conditioning), shape),
        chances(uniforms),
        before.astype(jnp.float32),
        ring,
    )
    columns = (BLOCKS, _cluster_kernel.letters(shape), TILE, 8)
    written = {
        "samples": (batch, time),
        **({"parameters": (batch, time, 4, TILE)} if debug else {}),
        **({"post": (batch, *columns)} if shape.interpreted else {}),
    }
    kernel = plgpu.kernel(
        functools.partial(_cluster_kernel.body, shape),
        out_type=tuple(jax.ShapeDtypeStruct(size, jnp.float32) for size in written.values()),
        grid=(batch,),
        grid_names=("stream",),
        cluster=(BLOCKS,),
        cluster_names=("place",),
        scratch_types=(_cluster_kernel.scratch(shape),),
        kernel_name="wavenet_cluster",
        compiler_params=plgpu.CompilerParams(approx_math=True),
        interpret=interpret,
    )
    results = dict(zip(written, kernel(*inputs), strict=True))
    samples = results["samples"]
    samples = mu_law_decode(samples.astype(jnp.int32)) if shape.mu_law else samples
    rings = split_rings(ring[..., 0][..., : weights.residual.shape[2]], state.buffers)
    state = State(rings, samples[:, -1], state.count + time)
    if not debug:
        return samples, state, None
    table = results["parameters"].reshape(batch, time, -1)
    return samples, state, table[..., : weights.parameters.shape[1]]


def _shape(weights, output, time, debug, interpreted):
    head, parameters = weights.parameters.shape
    numbers = (-(-size // TILE) for size in (weights.skip.shape[2], head, parameters))
    mu_law = output == "mu_law"
    choices = num_parameters(output, 0) if mu_law else parameters // 3
    return _cluster_kernel.Shape(
        len(weights.gate), *numbers, choices, mu_law, time, debug, interpreted, weights.gate.dtype
    )


def _share_out(shape):
    """The number of every block's every layer, -1 where there is none."""
    starts = [sum(shape.depths[:place]) for place in range(BLOCKS)]
    return jnp.asarray(
        [
            [start + n if n < count else -1 for n in range(shape.depth)]
            for start, count in zip(starts, shape.depths, strict=True)
        ]
    )


def _by_place(array, shape):
    """(L, …) to (B, D, …), zeros where there is no layer."""
    numbers = _share_out(shape)
    there = jnp.expand_dims(numbers >= 0, tuple(range(2, array.ndim + 1)))
    return jnp.where(there, array[numbers], jnp.zeros((), array.dtype))


def _places(dilations, shape):
    starts = [sum(dilations[:n]) for n in range(len(dilations))]
    there = jnp.ones(len(dilations), jnp.int32)
    rows = (there, jnp.asarray(dilations, jnp.int32), jnp.asarray(starts, jnp.int32))
    return jnp.stack([_by_place(row, shape) for row in rows])


def _matrices(weights, shape):
    """From `entry` to `parameters_bias` of the kernel's inputs."""
    gate = gate_tiles(weights.gate)[:, :, :, 0, 0].swapaxes(-1, -2)
    residual = tiles(weights.residual)[:, 0, 0].swapaxes(-1, -2)
    skip = tiles(weights.skip)[:, 0].swapaxes(-1, -2)
    past = _by_place(gate[:, 0], shape)
    layers = jnp.concatenate([past, _by_place(skip, shape)], axis=2)
    layers = layers.reshape(BLOCKS, -1, TILE, TILE)
    # By output tile, for the blocks that have one each.
    head = jnp.concatenate(
        [
            _whole_head(tiles(matrix).swapaxes(0, 1).swapaxes(-1, -2))
            for matrix in (weights.head, weights.parameters)
        ],
        axis=1,
    )
    last = jnp.concatenate([layers[HEAD:, : shape.head_start], head], axis=1)
    biases = (
        _whole_head(vector_tiles(bias))
        for bias in (weights.skip_bias, weights.head_bias, weights.parameters_bias)
    )
    return (
        vector_tiles(weights.first)[:, 0],
        _by_place(gate[:, 1], shape),
        _by_place(residual, shape),
        jnp.concatenate([_shelf(layers[:HEAD], shape), _shelf(last, shape)]),
        _by_place(vector_tiles(weights.residual_bias)[:, 0], shape),
        *biases,
    )


def _shelf(array, shape):
    return jnp.pad(array, [(0, 0), (0, shape.shelf - array.shape[1]), (0, 0), (0, 0)])


def _whole_head(array):
    """Pads what there is one of for each block of the head."""
    return jnp.pad(array, [(0, HEAD - len(array))] + [(0, 0)] * (array.ndim - 1))


def _conditioning(projected, shape):
    """(time, L, batch, 2 G) to (batch, time, B, D, 2, 64)."""
    time, layers, batch, gates = projected.shape
    halves = projected.reshape(time, layers, batch, 2, gates // 2)
    halves = jnp.pad(halves, [(0, 0)] * 4 + [(0, TILE - gates // 2)]).astype(jnp.float32)
    return _by_place(halves.swapaxes(0, 1), shape).transpose(3, 2, 0, 1, 4, 5)


def _ring(buffers):
    """All layers' buffers as one, (entries, batch, 64, 8) of equal columns."""
    ring = jnp.concatenate(buffers)
    ring = jnp.pad(ring, [(0, 0), (0, 0), (0, TILE - ring.shape[2])])
    return jnp.repeat(ring[..., None], 8, axis=-1)
