"""The GPU kernel for many streams: lays out its arrays, and launches it."""

import functools

import jax
import jax.numpy as jnp
from jax.experimental.pallas import mosaic_gpu as plgpu

from deepaudio.kernels.wavenet import _streams_kernel
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
    whole,
)
from deepaudio.kernels.wavenet.config import STREAMS, TILE, KernelConfig


def choose(weights: Weights, batch: int) -> KernelConfig:
    """The configuration for a network and a number of streams."""
    layers, gate, residual = weights.residual.shape
    sizes = (whole(size) for size in (residual, gate, *weights.head.shape))
    return KernelConfig.choose(
        *sizes,
        layers=layers,
        streams=batch,
        itemsize=weights.gate.dtype.itemsize,
    )


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
    """One launch.

    Args:
        weights: Of the network.
        dilations: Of every layer.
        conditioning: (batch, time, C).
        uniforms: (batch, time, n).
        state: Where an earlier launch ended.
        output: Of the network.
        temperature: Scalar.
        config: Sizes.
        debug: Whether the outputs of every sample are written, too.
        interpret: As Pallas takes it, to run on a CPU; None to compile.

    Returns:
        (batch, time) samples, the state, and (batch, time, n) parameters or None.
    """
    batch, time = uniforms.shape[:2]
    blocks = -(-batch // STREAMS)
    shape = _shape(weights, output, time, batch == 1, debug, interpret is not None)
    places = jnp.asarray(
        [dilations, [sum(dilations[:n]) for n in range(len(dilations))]], jnp.int32
    )
    before = mu_law_encode(state.sample) if shape.mu_law else state.sample
    ring = jax.new_ref(_ring(state.buffers, blocks, shape))
    inputs = _streams_kernel.Inputs(
        places,
        state.count.reshape(1),
        temperature.astype(jnp.float32).reshape(1),
        *_matrices(weights, shape, config),
        *_vectors(weights),
        _conditioning(project(weights, conditioning), blocks, shape),
        _chances(uniforms, blocks),
        _rows(before.astype(jnp.float32), blocks, 0),
        ring,
    )
    written = [jax.ShapeDtypeStruct((blocks, time, STREAMS), jnp.float32)]
    if debug:
        tiles = (blocks, time, shape.parameters, STREAMS, TILE)
        written.append(jax.ShapeDtypeStruct(tiles, jnp.float32))
    kernel = plgpu.kernel(
        functools.partial(_streams_kernel.body, shape, config),
        out_type=tuple(written),
        grid=(blocks,),
        grid_names=("block",),
        num_threads=_streams_kernel.WARPGROUPS,
        thread_name="warpgroup",
        scratch_types=(_streams_kernel.scratch(shape, config),),
        kernel_name="wavenet",
        compiler_params=plgpu.CompilerParams(approx_math=True),
        interpret=interpret,
    )
    drawn, *parameters = kernel(*inputs)
    samples = drawn.swapaxes(1, 2).reshape(-1, time)[:batch]
    samples = mu_law_decode(samples.astype(jnp.int32)) if shape.mu_law else samples
    buffers = _buffers(ring[...], state.buffers)
    state = State(buffers, samples[:, -1], state.count + time)
    if debug:
        table = parameters[0].transpose(0, 3, 1, 2, 4).reshape(blocks * STREAMS, time, -1)
        return samples, state, table[:batch, :, : weights.parameters.shape[1]]
    return samples, state, None


def _shape(weights, output, time, shared, debug, interpreted):
    layers, gate, residual = weights.residual.shape
    head, parameters = weights.parameters.shape
    tiles = (whole(n) // TILE for n in (residual, gate, weights.skip.shape[2], head, parameters))
    mu_law = output == "mu_law"
    choices = num_parameters(output, 0) if mu_law else parameters // 3
    return _streams_kernel.Shape(
        layers, *tiles, choices, mu_law, time, shared, debug, interpreted, weights.gate.dtype
    )


def _matrices(weights, shape, config):
    """`entry`, `gates`, `outputs` and `heads` of the kernel's inputs."""
    if shape.mu_law:
        entry = tiles(weights.first).swapaxes(0, 1)
    else:
        entry = vector_tiles(weights.first)
    # To layer, column tile, tap, row tile, half.
    gate = gate_tiles(weights.gate).transpose(0, 4, 1, 3, 2, 5, 6)
    gate = gate.reshape(shape.layers, shape.gate_pieces, 4, TILE, TILE)
    outputs = jnp.concatenate([tiles(weights.residual), tiles(weights.skip)], axis=2)
    heads = [
        tiles(matrix).swapaxes(0, 1).reshape(-1, TILE, TILE)
        for matrix in (weights.head, weights.parameters)
    ]
    heads = jnp.concatenate(heads).reshape(-1, config.head_tiles, TILE, TILE)
    return entry, gate, outputs, heads


def _vectors(weights):
    return tuple(
        vector_tiles(vector)
        for vector in (
            weights.residual_bias,
            weights.skip_bias,
            weights.head_bias,
            weights.parameters_bias,
        )
    )


def _rows(array, blocks, axis):
    """Pads streams to whole blocks, or repeats the only one: axis n to (blocks, 64) there."""
    size = array.shape[axis]
    if size == 1:
        array = jnp.repeat(array, STREAMS, axis=axis)
    else:
        padding = [(0, 0)] * array.ndim
        padding[axis] = (0, blocks * STREAMS - size)
        array = jnp.pad(array, padding)
    return array.reshape(*array.shape[:axis], blocks, STREAMS, *array.shape[axis + 1 :])


def _conditioning(projected, blocks, shape):
    """(time, L, batch, 2 G) to the kernel's layout."""
    time, layers, batch, gates = projected.shape
    halves = projected.reshape(time, layers, batch, 2, gates // 2)
    halves = jnp.pad(halves, [(0, 0)] * 4 + [(0, shape.gate * TILE - gates // 2)])
    halves = halves.reshape(time, layers, batch, 2, shape.gate, TILE)
    if shape.shared:
        return halves.transpose(2, 0, 1, 4, 3, 5)
    return _rows(halves, blocks, 2).transpose(2, 0, 1, 5, 4, 3, 6)


def _chances(uniforms, blocks):
    """(batch, time, n) to (blocks, time, 2, 64): uniform numbers, and logistic ones."""
    return _rows(chances(uniforms), blocks, 0).transpose(0, 2, 3, 1)


def _ring(buffers, blocks, shape):
    """All layers' buffers as one, (entries, blocks, tiles, 64, 64)."""
    ring = jnp.concatenate(buffers)
    ring = jnp.pad(ring, [(0, 0), (0, 0), (0, shape.residual * TILE - ring.shape[2])])
    ring = _rows(ring, blocks, 1)
    return ring.reshape(*ring.shape[:3], shape.residual, TILE).swapaxes(2, 3)


def _buffers(ring, like):
    """The inverse of `_ring`."""
    batch, channels = like[0].shape[1:]
    ring = ring.swapaxes(2, 3).reshape(ring.shape[0], -1, ring.shape[2] * TILE)
    return split_rings(ring[:, :batch, :channels], like)
