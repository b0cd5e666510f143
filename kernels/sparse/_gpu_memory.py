"""Loads and stores of a GPU thread at places of its own, which Pallas has no operation for.

As inline operations of Mosaic GPU; in the interpreter, which has none of those, in plain JAX.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.mosaic import gpu as mgpu
from jax.experimental.pallas import mosaic_gpu as plgpu
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import arith, memref, scf, vector


class Memory(NamedTuple):
    """Access by index.

    Attributes:
        gather: From a float32 reference and int32 indices into it, flat, to its elements.
        scatter: Takes a float32 reference, int32 indices and values; stores where an index is
            not negative. No two may be the same.
    """

    gather: Callable[[Any, jax.Array], jax.Array]
    scatter: Callable[[Any, jax.Array, jax.Array], None]


def make(layout: plgpu.Layout, size: int, interpret: object) -> Memory:
    """The operations for arrays of one layout.

    Args:
        layout: Strided, of one axis.
        size: Of that axis.
        interpret: As Pallas takes it; None if the kernel is compiled.
    """
    if interpret is not None:
        return Memory(_gather_interpreted, _scatter_interpreted)
    gather = plgpu.inline_mgpu(
        arg_types=(plgpu.RefType(), layout),
        return_type=plgpu.ShapeDtypeStruct((size,), jnp.float32, layout=layout),
    )(_gather)
    scatter = plgpu.inline_mgpu(arg_types=(plgpu.RefType(), layout, layout))(_scatter)
    return Memory(gather, scatter)


def _gather(_, reference, indices):
    reference = _flat(reference)
    float32, index = ir.F32Type.get(), ir.IndexType.get()

    def load(register):
        width = ir.VectorType(register.type).shape[0]
        found = [
            memref.load(reference, [arith.index_cast(index, _element(register, number))])
            for number in range(width)
        ]
        return vector.from_elements(ir.VectorType.get((width,), float32), found)

    registers = np.empty_like(indices.registers)
    for place, register in np.ndenumerate(indices.registers):
        registers[place] = load(register)
    return mgpu.FragmentedArray(_registers=registers, _layout=indices.layout, _is_signed=None)


def _scatter(_, reference, indices, values):
    index = ir.IndexType.get()
    for places, numbers in zip(indices.registers.flat, values.registers.flat, strict=True):
        for number in range(ir.VectorType(places.type).shape[0]):
            place = _element(places, number)
            zero = arith.constant(place.type, 0)
            branch = scf.IfOp(arith.cmpi(arith.CmpIPredicate.sge, place, zero))
            with ir.InsertionPoint(branch.then_block):
                memref.store(_element(numbers, number), reference, [arith.index_cast(index, place)])
                scf.yield_([])


def _element(register, number):
    return vector.extract(register, dynamic_position=[], static_position=[number])


def _flat(reference):
    rank = ir.MemRefType(reference.type).rank
    return reference if rank == 1 else mgpu.utils.memref_fold(reference, 0, rank)


def _gather_interpreted(reference, indices):
    return reference[...].reshape(-1)[indices]


def _scatter_interpreted(reference, indices, values):
    def store(number, _):
        @pl.when(indices[number] >= 0)
        def _():
            reference[indices[number]] = values[number]

    jax.lax.fori_loop(0, indices.shape[0], store, None)
