"""The sum of a law over all pairs: choice of implementation, gradients, and rings of devices."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp

from deepaudio.kernels.nbody import mosaic_gpu, reference
from deepaudio.kernels.nbody._laws import Features, Law, source_gradient, target_gradient

Implementation = Literal["xla", "mosaic_gpu"]
IMPLEMENTATIONS = ("xla", "mosaic_gpu")


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def sum_pairs(
    law: Law,
    implementation: Implementation | None,
    constants: Features,
    targets: Features,
    sources: Features,
    offset: jax.Array | None,
) -> Features:
    """Sums a law over all sources, for every target, and differentiates likewise.

    Both gradients are sums over pairs as well, with memory for bodies alone. They may be
    differentiated again.

    Args:
        law: What a source does to a target.
        implementation: "xla", "mosaic_gpu", or None for the best that the device can run.
        constants: Scalars of the law; no gradient is given for them.
        targets: Features, each (N,).
        sources: Features, each (M,).
        offset: int32 scalar: target i and source i + offset are the same body; None if none are.

    Returns:
        The law's outputs, each (N,).
    """
    offset = offset if law.singular else None
    arguments = (constants, targets, sources, offset)
    dtype = targets[0].dtype
    if implementation == "xla" or (implementation is None and dtype != jnp.float32):
        return reference.sum_pairs(law, *arguments)
    if implementation == "mosaic_gpu":
        return mosaic_gpu.sum_pairs(law, *arguments)
    if mosaic_gpu.is_supported():
        return mosaic_gpu.sum_pairs(law, *arguments)
    return reference.sum_pairs(law, *arguments)


def _forward(law, implementation, constants, targets, sources, offset):
    arguments = (constants, targets, sources, offset)
    return sum_pairs(law, implementation, *arguments), arguments


def _backward(law, implementation, kept, cotangents):
    constants, targets, sources, offset = kept
    acting = (*targets, *cotangents)
    by_targets = sum_pairs(target_gradient(law), implementation, constants, acting, sources, offset)
    back = None if offset is None else -offset
    by_sources = sum_pairs(source_gradient(law), implementation, constants, sources, acting, back)
    return None, by_targets, by_sources, None


sum_pairs.defvjp(_forward, _backward)


def sum_around_ring(
    law: Law,
    implementation: Implementation | None,
    constants: Features,
    targets: Features,
    sources: Features,
    *,
    same: bool,
    axis_name: str,
) -> Features:
    """`sum_pairs` where every device of a mesh axis holds a part of the targets and sources.

    Sources travel round the ring. A part is sent on before the sum over it begins and does not
    depend on it, so that a device computes while the next part is under way.

    Args:
        law: What a source does to a target.
        implementation: As for `sum_pairs`.
        constants: Scalars of the law.
        targets: Features of this device's targets, each (n,).
        sources: Features of this device's sources, each (m,).
        same: Whether targets and sources are the same bodies.
        axis_name: The mesh axis, inside `jax.shard_map`.

    Returns:
        The outputs of this device's targets, each (n,).
    """
    devices = jax.lax.axis_size(axis_name)
    here = jax.lax.axis_index(axis_name)
    onward = [(device, (device + 1) % devices) for device in range(devices)]

    def add(step, sources, totals):
        offset = None
        if same:
            # What is here set out `step` devices before; at first the bodies are the same.
            origin = (here - step) % devices
            offset = (targets[0].shape[0] * (here - origin)).astype(jnp.int32)
        part = sum_pairs(law, implementation, constants, targets, sources, offset)
        return jax.tree.map(jnp.add, totals, part)

    def advance(carry, step):
        sources, totals = carry
        following = jax.lax.ppermute(sources, axis_name, onward)
        return (following, add(step, sources, totals)), None

    # Not plain zeros: what is summed varies over the mesh.
    totals = (0.0 * (targets[0] + sources[0][0]),) * law.outputs
    steps = jnp.arange(devices - 1, dtype=jnp.int32)
    (sources, totals), _ = jax.lax.scan(advance, (sources, totals), steps)
    totals = add(jnp.int32(devices - 1), sources, totals)
    return totals
