"""The pair sum in plain XLA: what CPUs, TPUs and older GPUs run, and what kernels are held against.

Memory is O(N): a tile of targets meets a few sources at a time. XLA on a CPU makes good vector code
of elementwise arithmetic in tiles that stay in the first cache, and poor code of most else, hence
the shape of `_add_sources`. It runs such a loop on one core; several devices, one for each core,
use them all (see `ring`).
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deepaudio.kernels.nbody._laws import Features, Law, Maths
from deepaudio.kernels.nbody.config import TileConfig

# Minimax over [1, 4) of a linear step from the bits' guess (found numerically, relative error
# 6.5e-4); a step of third order then leaves rounding alone.
_GUESS, _FIRST, _SLOPE = 0x5F200000, 1.681911995, 0.7039496742


@jax.custom_jvp
def _fast_rsqrt(x: jax.Array) -> jax.Array:
    """1 / sqrt(x) to float32's precision, by products alone.

    XLA on a CPU takes a square root and divides, which together take as long as all the rest of a
    gravitational pair.

    Args:
        x: float32, positive and normal; other dtypes go through `jax.lax.rsqrt`.

    Returns:
        Of the shape of x.
    """
    if x.dtype != jnp.float32:
        return jax.lax.rsqrt(x)
    bits = jax.lax.bitcast_convert_type(x, jnp.int32)
    guess = jnp.int32(_GUESS) - jax.lax.shift_right_arithmetic(bits, jnp.int32(1))
    y = jax.lax.bitcast_convert_type(guess, jnp.float32)
    y = y * (_FIRST - _SLOPE * ((x * y) * y))
    square = (x * y) * y
    return y * (1.875 + square * (0.375 * square - 1.25))


@_fast_rsqrt.defjvp
def _fast_rsqrt_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    y = _fast_rsqrt(primals[0])
    return y, -0.5 * (y * y) * y * tangents[0]


_CPU = Maths(_fast_rsqrt, lambda x: 1.0 / x, jnp.exp2)
_OTHER = Maths(jax.lax.rsqrt, lambda x: 1.0 / x, jnp.exp2)


def sum_pairs(
    law: Law, constants: Features, targets: Features, sources: Features, offset: jax.Array | None
) -> Features:
    """Sums a law over all sources, for every target.

    Args:
        law: What a source does to a target.
        constants: Scalars of the law.
        targets: Features, each (N,) of one dtype.
        sources: Features, each (M,).
        offset: int32 scalar: target i and source i + offset are the same body, and that pair is
            left out; None to leave out none.

    Returns:
        The outputs, each (N,).
    """
    if offset is None:
        offset, leave_out = jnp.int32(0), False
    else:
        leave_out = True
    tiled = functools.partial(_tiled, law, leave_out)
    return jax.lax.platform_dependent(
        constants,
        targets,
        sources,
        offset,
        cpu=functools.partial(tiled, TileConfig.for_cpu(), _CPU),
        default=functools.partial(tiled, TileConfig.for_accelerator(), _OTHER),
    )


def _tiled(law, leave_out, config, maths, constants, targets, sources, offset):
    size, count = targets[0].shape[0], sources[0].shape[0]
    rows = min(config.targets, _round_up(size, 16))
    step = config.sources
    group = min(config.group, _round_up(count, step))
    blocks, groups = math.ceil(size / rows), math.ceil(count / group)
    targets = _pad(targets, law.target_padding, blocks * rows)
    sources = jnp.stack(_pad(sources, law.source_padding, groups * group))

    def block(index):
        mine = tuple(jax.lax.dynamic_slice(t, (index * rows,), (rows,)) for t in targets)
        # The body of a source is offset from the target's of the same number.
        names = index * rows + offset + jnp.arange(rows, dtype=jnp.int32) if leave_out else None

        def add_step(start, number, sums):
            start = start + number * step
            chunk = jax.lax.dynamic_slice(sources, (0, start), (len(sources), step))
            keep = None
            if leave_out:
                others = start + jnp.arange(step, dtype=jnp.int32)
                keep = names[None, :] != others[:, None]
            return _add_sources(law, maths, constants, mine, chunk, keep, sums)

        def add_group(number, sums):
            # Summed apart and then added, the rounding of a long sum grows more slowly.
            part = jax.lax.fori_loop(
                0, group // step, functools.partial(add_step, number * group), zeros
            )
            return tuple(a + b for a, b in zip(sums, part, strict=True))

        # Not plain zeros: within `jax.shard_map` they must vary over the mesh as the sums will.
        zeros = (0.0 * (mine[0] + sources[0, 0] + sum(constants, offset.astype(mine[0].dtype))),)
        zeros *= law.outputs
        return jax.lax.fori_loop(0, groups, add_group, zeros)

    found = jax.lax.map(block, jnp.arange(blocks, dtype=jnp.int32))
    return tuple(part.reshape(-1)[:size] for part in found)


def _add_sources(law, maths, constants, targets, chunk, keep, sums):
    """Adds what a few sources do to a tile of targets."""
    rows = tuple(target[None, :] for target in targets)
    columns = tuple(source[:, None] for source in chunk)
    scalars = tuple(constant[None, None] for constant in constants)
    found = law.coefficients(maths, scalars, rows, columns)
    if keep is not None:
        found = tuple(jnp.where(keep, part, jnp.zeros_like(part)) for part in found)
    # The costly part is computed once and kept; the rest is computed where it is used, for which
    # XLA must not see that it has met the same differences before.
    found, targets, chunk = jax.lax.optimization_barrier((found, targets, chunk))
    for j in range(chunk.shape[1]):
        sums = law.combine(tuple(part[j] for part in found), targets, tuple(chunk[:, j]), sums)
    return sums


def _round_up(number, multiple):
    return -(-number // multiple) * multiple


def _pad(features, padding, size):
    return tuple(
        jnp.pad(feature, (0, size - feature.shape[0]), constant_values=np.asarray(value, "f4"))
        for feature, value in zip(features, padding, strict=True)
    )
