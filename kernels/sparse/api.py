"""Products of a few vectors with unstructured sparse matrices, for inference.

A matrix that was pruned to 70 % or more (arXiv 1704.05119) is packed to three to four bytes a
nonzero. A product with one vector reads every weight once and does nothing else with it, so it
takes the time of reading them; the fewer bytes, the faster.

Values are rounded to 16 bits, everything else is float32. There is no gradient: weights are pruned
and trained dense, under a mask (`deepaudio.optim.gradual_pruning`).
"""

import warnings
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from deepaudio.kernels.sparse import _format, mosaic_gpu, reference
from deepaudio.kernels.sparse._format import PackedMatrix
from deepaudio.kernels.sparse.config import MAX_INPUTS, PackConfig

Implementation = Literal["xla", "mosaic_gpu"]
MAX_BATCH = 8
# With fewer zeros a dense product is as fast: on a CPU, where a gathered element costs three times
# what a dense one does, and nearly as small.
MIN_SPARSITY = 0.7
_DTYPES = ("bfloat16", "float16")
_VECTOR_DTYPES = ("float32", *_DTYPES)


def pack(
    matrix: np.ndarray | jax.Array,
    *,
    dtype: Literal["bfloat16", "float16"] = "bfloat16",
    config: PackConfig | None = None,
) -> PackedMatrix | jax.Array:
    """Packs a pruned matrix.

    Args:
        matrix: (inputs, outputs) of floats, as flax keeps kernels, with exact zeros where it is
            pruned. Concrete: this runs on the host, not inside `jit`.
        dtype: Of the packed values; others are rounded to it.
        config: Sizes; None for a choice by the nonzeros.

    Returns:
        The packed matrix; with a warning, the matrix itself where less than 70 % of it are zero.
        `matvec` takes either.

    Raises:
        ValueError: The matrix is not of two axes, empty, not of floats or not finite (in `dtype`),
            has more than 65536 inputs, or `config` does not fit it.
    """
    if dtype not in _DTYPES:
        raise ValueError(f"{dtype=} must be one of {', '.join(_DTYPES)}")
    if matrix.ndim != 2 or not matrix.size:
        raise ValueError(f"matrix must be (inputs, outputs) of at least 1, not {matrix.shape}")
    if not jnp.issubdtype(matrix.dtype, jnp.floating):
        raise ValueError(f"matrix must be of floats, not {matrix.dtype}")
    inputs = matrix.shape[0]
    if inputs > MAX_INPUTS:
        raise ValueError(f"{inputs=} must be at most {MAX_INPUTS}")
    with np.errstate(over="ignore"):
        values = np.asarray(matrix).astype(dtype)
    unfit = np.argwhere(~np.isfinite(values))
    if len(unfit):
        place = tuple(int(index) for index in unfit[0])
        raise ValueError(f"matrix{list(place)} = {matrix[place]} must be a number that {dtype} has")
    sparsity = zero_share(values)
    if sparsity < MIN_SPARSITY:
        warnings.warn(
            f"the matrix of {matrix.shape} is {100 * sparsity:.1f} % zero, and packing gains "
            f"nothing below {100 * MIN_SPARSITY:.0f} %: it stays dense",
            stacklevel=2,
        )
        return jnp.asarray(matrix)
    return _format.pack_values(values, config)


def zero_share(matrix: np.ndarray | jax.Array) -> float:
    """The share of a matrix's entries that are exactly zero, in [0, 1]."""
    return 1.0 - np.count_nonzero(matrix) / matrix.size


def matvec(
    packed: PackedMatrix | jax.Array,
    vectors: jax.Array,
    *,
    implementation: Implementation | None = None,
) -> jax.Array:
    """Multiplies a few vectors with a packed matrix: vectors @ matrix.

    Args:
        packed: (inputs, outputs); of `pack`, so it may be dense.
        vectors: (batch, inputs) float32, bfloat16 or float16, batch from 1 to 8.
        implementation: "mosaic_gpu" (NVIDIA GPUs since Hopper), "xla" (any device), or None for
            the best that the device has. A dense matrix is multiplied by XLA in any case.

    Returns:
        (batch, outputs) float32, summed in float32.

    Raises:
        ValueError: The batch is larger, shapes do not fit, a dtype or the implementation is
            unknown, or the GPU's shared memory does not hold the vectors and a block of lanes.
        TypeError: It is differentiated.

    Examples:
        >>> matrix = np.zeros((8, 4), np.float32)
        >>> matrix[2, 1], matrix[7, 3] = 0.5, 2.0
        >>> matvec(pack(matrix), jnp.arange(8.0)[None]).tolist()
        [[0.0, 1.0, 0.0, 14.0]]

    References:
        Narang et al., `Exploring Sparsity in Recurrent Neural Networks
        <https://arxiv.org/abs/1704.05119>`_, section 5: what such products gain
    """
    if implementation is not None and implementation not in get_args(Implementation):
        known = ", ".join(get_args(Implementation))
        raise ValueError(f"{implementation=} must be one of {known}")
    inputs = packed.shape[0]
    if vectors.ndim != 2 or vectors.shape[1] != inputs:
        raise ValueError(f"vectors must be (batch, {inputs}), not {vectors.shape}")
    batch = vectors.shape[0]
    if not 1 <= batch <= MAX_BATCH:
        raise ValueError(f"{batch=} must be from 1 to {MAX_BATCH}; multiply more densely")
    if vectors.dtype.name not in _VECTOR_DTYPES:
        raise ValueError(
            f"vectors must be of {', '.join(_VECTOR_DTYPES)}, not {vectors.dtype.name}"
        )
    vectors = jnp.asarray(vectors, jnp.float32)
    if not isinstance(packed, PackedMatrix):
        return vectors @ packed.astype(jnp.float32)
    if implementation is None:
        able = mosaic_gpu.is_supported() and mosaic_gpu.fits(packed, batch)
        implementation = "mosaic_gpu" if able else "xla"
    multiply = mosaic_gpu.matvec if implementation == "mosaic_gpu" else reference.matvec
    return _without_gradient(multiply, packed, vectors)


def _without_gradient(multiply, packed, vectors):
    """Stops differentiation with a reason; of gathers and kernels it would fail without one."""

    @jax.custom_jvp
    def product(packed, vectors):
        return multiply(packed, vectors)

    @product.defjvp
    def _(primals, tangents):
        raise TypeError(
            "matvec is for inference and has no gradient: train the dense matrix under a mask"
        )

    return product(packed, vectors)
