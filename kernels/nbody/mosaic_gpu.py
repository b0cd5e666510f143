"""The pair sum on NVIDIA GPUs of the Hopper generation and newer, in Pallas's Mosaic GPU.

A block holds a tile of targets in registers, a few in every lane, and goes through its share of the
sources. These come to shared memory in chunks by bulk copies, one under way while another is used,
and are read as scalars that all lanes share. Partial sums of the shares are added afterwards, in
a fixed order: the same input gives the same output, bit for bit.
"""

import functools
import math

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from deepaudio.kernels.nbody._laws import Features, Law, Maths
from deepaudio.kernels.nbody.config import KernelConfig


def is_supported() -> bool:
    """Whether the default device can run these kernels."""
    device = jax.devices()[0]
    return device.platform == "gpu" and _generation(device) >= 9


def _generation(device):
    """Major number of the CUDA compute capability; 0 if it has none."""
    capability = str(getattr(device, "compute_capability", ""))
    major = capability.partition(".")[0]
    return int(major) if major.isdigit() else 0


def sum_pairs(
    law: Law,
    constants: Features,
    targets: Features,
    sources: Features,
    offset: jax.Array | None,
    *,
    config: KernelConfig | None = None,
    interpret: object = None,
) -> Features:
    """Sums a law over all sources, for every target.

    Args:
        law: What a source does to a target.
        constants: Scalars of the law.
        targets: Features, each (N,) float32.
        sources: Features, each (M,) float32.
        offset: int32 scalar: target i and source i + offset are the same body, and that pair is
            left out; None to leave out none.
        config: Sizes; None for a choice by law and numbers.
        interpret: As Pallas takes it, to run on a CPU; None to compile.

    Returns:
        The outputs, each (N,) float32.

    Raises:
        ValueError: The features are not float32.
    """
    dtype = targets[0].dtype
    if dtype != jnp.float32:
        raise ValueError(
            f"the GPU kernel computes in float32, not {dtype}: use implementation='xla'"
        )
    size, count = targets[0].shape[0], sources[0].shape[0]
    config = config or KernelConfig.choose(size, count)
    blocks = math.ceil(size / config.targets)
    chunks = math.ceil(count / (config.sources * config.splits))
    targets = _packed(targets, law.target_padding, blocks * config.targets)
    sources = _packed(sources, law.source_padding, chunks * config.splits * config.sources)
    scalars = jnp.stack([*(jnp.asarray(value, jnp.float32) for value in constants), jnp.float32(0)])
    leave_out = offset is not None
    kernel = plgpu.kernel(
        functools.partial(_body, law, config, chunks, len(constants), leave_out, interpret),
        out_type=jax.ShapeDtypeStruct(
            (config.splits, law.outputs, blocks * config.targets), jnp.float32
        ),
        grid=(config.splits, blocks),
        grid_names=("split", "block"),
        scratch_types=[
            plgpu.SMEM((2, len(sources), config.sources), jnp.float32),
            plgpu.Barrier(num_barriers=2),
        ],
        kernel_name=f"nbody_{law.name}",
        compiler_params=plgpu.CompilerParams(approx_math=True),
        interpret=interpret,
    )
    names = jnp.zeros(1, jnp.int32) if not leave_out else offset.astype(jnp.int32).reshape(1)
    parts = kernel(scalars, names, targets, sources)
    return tuple(parts.sum(axis=0)[:, :size])


def _packed(features, padding, size):
    """Features one below the other, padded with bodies that change nothing."""
    return jnp.stack(
        [
            jnp.pad(feature, (0, size - feature.shape[0]), constant_values=np.float32(value))
            for feature, value in zip(features, padding, strict=True)
        ]
    )


def _body(
    law, config, chunks, num_constants, leave_out, interpret,
    scalars, names, targets, sources, out, buffers, arrived,
):  # fmt: skip
    """One block: its targets against its share of the sources."""
    first = jax.lax.axis_index("block") * config.targets
    share = jax.lax.axis_index("split") * chunks
    layout = plgpu.Layout.WG_STRIDED((config.targets,), vec_size=config.vector)
    maths = _maths(layout, config.targets, interpret)
    constants = tuple(scalars[number] for number in range(num_constants))
    mine = tuple(
        plgpu.load(targets.at[number, pl.ds(first, config.targets)], layout=layout)
        for number in range(targets.shape[0])
    )

    def fetch(number, slot):
        where = pl.ds((share + number) * config.sources, config.sources)
        plgpu.copy_gmem_to_smem(sources.at[:, where], buffers.at[slot], arrived.at[slot])

    def add_chunk(number, sums):
        slot = jax.lax.rem(number, 2)
        plgpu.barrier_wait(arrived.at[slot])
        add = functools.partial(_add_sources, law, config, maths, constants, mine, buffers, slot)
        if leave_out:
            # The body of target i is source i + names[0]; in few chunks is it among the sources.
            start = (share + number) * config.sources
            apart = start - (first + names[0])
            meets = (apart < config.targets) & (apart > -config.sources)
            bodies = plgpu.broadcasted_iota(jnp.int32, (config.targets,), 0, layout=layout)
            part = jax.lax.cond(meets, lambda: add(bodies - apart), lambda: add(None))
        else:
            part = add(None)

        @pl.when(number + 2 < chunks)
        def _():
            plgpu.commit_smem()
            fetch(number + 2, slot)

        # Each chunk is summed apart, so that the rounding of a long sum grows more slowly.
        return tuple(a + b for a, b in zip(sums, part, strict=True))

    for number in range(min(2, chunks)):
        fetch(number, number)
    zero = plgpu.layout_cast(jnp.zeros((config.targets,), jnp.float32), layout)
    sums = jax.lax.fori_loop(0, chunks, add_chunk, (zero,) * law.outputs)
    for number, total in enumerate(sums):
        split = jax.lax.axis_index("split")
        out[split, number, pl.ds(first, config.targets)] = total


def _add_sources(law, config, maths, constants, mine, buffers, slot, itself):
    """What the sources of one chunk do to all targets of the block.

    `itself` is each target's own number among these sources, for pairs to leave out, or None.
    """

    def add(number, sums):
        source = tuple(buffers[slot, feature, number] for feature in range(buffers.shape[1]))
        found = _plain(law.coefficients, maths)(constants, mine, source)
        if itself is not None:
            keep = itself != number
            found = tuple(jnp.where(keep, part, jnp.zeros_like(part)) for part in found)
        return law.combine(found, mine, source, sums)

    zeros = tuple(jnp.zeros_like(mine[0]) for _ in range(law.outputs))
    return jax.lax.fori_loop(0, config.sources, add, zeros, unroll=config.unroll)


def _maths(layout, size, interpret):
    """Elementary functions as single instructions that flush subnormal numbers to zero.

    Without the flushing, the compiler scales arguments before and results after each.
    """
    if interpret is not None:
        return Maths(jax.lax.rsqrt, lambda x: 1.0 / x, jnp.exp2)

    def instruction(name, slope):
        @jax.custom_jvp
        @plgpu.inline_mgpu(
            arg_types=(layout,),
            return_type=plgpu.ShapeDtypeStruct((size,), jnp.float32, layout=layout),
        )
        def run(_, x):
            return x._pointwise(x._lift_fast_instr(f"{name}.approx.ftz.f32"))

        @run.defjvp
        def _(primals, tangents):
            y = run(primals[0])
            return y, slope(y) * tangents[0]

        return run

    return Maths(
        instruction("rsqrt", lambda y: -0.5 * (y * y) * y),
        instruction("rcp", lambda y: -(y * y)),
        instruction("ex2", lambda y: math.log(2.0) * y),
    )


def _plain(function, maths):
    """`function(maths, …)` rid of what differentiation leaves behind and kernels cannot compile.

    Those are calls of functions with custom derivatives, and the sum of two cotangents.
    """

    def run(*arguments):
        leaves, tree = jax.tree.flatten(arguments)

        def flat(*leaves):
            return function(maths, *jax.tree.unflatten(tree, leaves))

        traced = jax.make_jaxpr(flat)(*leaves)
        return tuple(_evaluate(traced.jaxpr, traced.consts, leaves))

    return run


def _evaluate(jaxpr, consts, arguments):
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *arguments), strict=True))

    def read(atom):
        return atom.val if isinstance(atom, jax.extend.core.Literal) else values[atom]

    for equation in jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        inner = equation.params.get("call_jaxpr", equation.params.get("jaxpr"))
        if equation.primitive.name == "add_any":
            outputs = [inputs[0] + inputs[1]]
        elif isinstance(inner, jax.extend.core.ClosedJaxpr):
            outputs = _evaluate(inner.jaxpr, inner.consts, inputs)
        else:
            outputs = equation.primitive.bind(*inputs, **equation.params)
            outputs = outputs if equation.primitive.multiple_results else [outputs]
        values.update(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]
