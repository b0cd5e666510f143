"""How arrays are laid out for the GPU kernels."""

import jax
import jax.numpy as jnp

from deepaudio.kernels.wavenet._outputs import clip_uniforms
from deepaudio.kernels.wavenet.config import TILE


def whole(channels: int) -> int:
    """Channels with those that pad the last tile."""
    return -(-channels // TILE) * TILE


def tiles(matrix: jax.Array) -> jax.Array:
    """(…, rows, columns) to (…, row tiles, column tiles, 64, 64), padded with zeros."""
    *batch, rows, columns = matrix.shape
    padding = [(0, 0)] * len(batch) + [(0, whole(n) - n) for n in (rows, columns)]
    matrix = jnp.pad(matrix, padding)
    matrix = matrix.reshape(*batch, whole(rows) // TILE, TILE, whole(columns) // TILE, TILE)
    return matrix.swapaxes(-3, -2)


def vector_tiles(vectors: jax.Array) -> jax.Array:
    """(…, channels) to (…, tiles, 64) float32, padded with zeros."""
    channels = vectors.shape[-1]
    padding = [(0, 0)] * (vectors.ndim - 1) + [(0, whole(channels) - channels)]
    padded = jnp.pad(vectors, padding).astype(jnp.float32)
    return padded.reshape(*vectors.shape[:-1], -1, TILE)


def gate_tiles(gate: jax.Array) -> jax.Array:
    """(L, 2, R, 2 G) filters to (L, tap, half, row tiles, column tiles, 64, 64).

    Halves are padded apart: tanh's and the sigmoid's channels stay side by side.
    """
    layers, taps, residual, gates = gate.shape
    return tiles(gate.reshape(layers, taps, residual, 2, gates // 2).swapaxes(2, 3))


def chances(uniforms: jax.Array) -> jax.Array:
    """(…, n) uniform numbers to (…, 2): the first, and a logistic one made of the last."""
    uniforms = clip_uniforms(uniforms)
    last = uniforms[..., -1]
    return jnp.stack([uniforms[..., 0], jnp.log(last) - jnp.log1p(-last)], axis=-1)


def split_rings(ring: jax.Array, like: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    """All layers' rings, (entries, batch, R), to one array a layer."""
    ends = [sum(len(buffer) for buffer in like[: n + 1]) for n in range(len(like))]
    return tuple(jnp.split(ring, ends[:-1]))
