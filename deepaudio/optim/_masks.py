"""Masks of weights: which to keep, by threshold or by rank, singly, in blocks or N of every M.

A mask is a tree like the parameters: boolean leaves (true is kept) where weights are selected, and
`optax.MaskedNode()` elsewhere.
"""

import dataclasses
import math
import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from deepaudio.optim._selection import Where, path_names, selected


@dataclasses.dataclass(frozen=True)
class Block:
    """Weights are kept or dropped in whole blocks of a leaf's last two axes.

    Attributes:
        rows: Weights of a block along axis -2.
        columns: Weights of a block along axis -1.

    Raises:
        ValueError: `rows` or `columns` is less than 1.
    """

    rows: int
    columns: int

    def __post_init__(self):
        for name in ("rows", "columns"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a leaf of this shape can be cut into whole blocks."""
        return len(shape) >= 2 and shape[-2] % self.rows == 0 and shape[-1] % self.columns == 0

    def reduce(self, magnitudes: jax.Array, reduction: Callable[..., jax.Array]) -> jax.Array:
        """One number a block: (..., rows, columns) to (..., blocks down, blocks across)."""
        *stack, height, width = magnitudes.shape
        split = (*stack, height // self.rows, self.rows, width // self.columns, self.columns)
        return reduction(magnitudes.reshape(split), axis=(-3, -1))

    def spread(self, kept: jax.Array) -> jax.Array:
        """The inverse of `reduce`: the same value for all weights of a block."""
        return jnp.repeat(jnp.repeat(kept, self.rows, axis=-2), self.columns, axis=-1)


@dataclasses.dataclass(frozen=True)
class NOfM:
    """At most n of every m weights in a row along the input axis (axis -2) are kept.

    The pattern of sparse tensor cores is 2 of 4 (Mishra et al., arXiv 2104.08378).

    Attributes:
        n: Weights kept of each group.
        m: Weights of a group.

    Raises:
        ValueError: Not 1 <= n < m.
    """

    n: int
    m: int

    def __post_init__(self):
        if not 1 <= self.n < self.m:
            raise ValueError(f"n={self.n} must be at least 1 and less than m={self.m}")

    @property
    def sparsity(self) -> float:
        """The share of weights dropped, 1 - n/m."""
        return 1 - self.n / self.m

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a leaf of this shape can be cut into whole groups."""
        return len(shape) >= 2 and shape[-2] % self.m == 0

    def ranks(self, magnitudes: jax.Array) -> jax.Array:
        """Place of each weight in its group: 0 is the smallest, and of equals the first."""
        *stack, height, width = magnitudes.shape
        groups = magnitudes.reshape(*stack, height // self.m, self.m, width)
        order = jnp.argsort(groups, axis=-2, stable=True)
        return jnp.argsort(order, axis=-2).reshape(magnitudes.shape)


Structure = Block | NOfM | None


def is_concrete(value: Any) -> bool:
    """Whether a hyperparameter is a Python number, and not an array that may be traced."""
    return isinstance(value, numbers.Real)


def as_float(number: Any) -> Any:
    """A hyperparameter as a float, or as a float32 array if it came as an array."""
    return float(number) if is_concrete(number) else jnp.asarray(number).astype(jnp.float32)


def check_whole(name: str, value: Any, least: int) -> Any:
    """A step count as an int, or as an int32 array if it came as an array.

    Raises:
        ValueError: It is a Python number, and less than `least` or not whole.
    """
    if not is_concrete(value):
        return jnp.asarray(value).astype(jnp.int32)
    if not math.isfinite(value) or value != int(value):
        raise ValueError(f"{name}={value} must be a whole number")
    if value < least:
        raise ValueError(f"{name}={value} must be at least {least}")
    return int(value)


def check_real(name: str, value: Any, least: float = 0.0) -> Any:
    """A hyperparameter as a float, or as a float32 array if it came as an array.

    Raises:
        ValueError: It is a Python number, and less than `least` or not finite.
    """
    if is_concrete(value) and not least <= value < math.inf:
        raise ValueError(f"{name}={value} must be finite and at least {least:g}")
    return as_float(value)


def check_sparsity(sparsity: Any, structure: Structure) -> Any:
    """A sparsity as a float, or as a float32 array if it came as an array.

    Raises:
        ValueError: It is a Python number outside [0, 1), or not that of an `NOfM` structure.
    """
    if is_concrete(sparsity):
        if not 0 <= sparsity < 1:
            raise ValueError(f"{sparsity=} must be at least 0 and less than 1")
        if isinstance(structure, NOfM) and abs(sparsity - structure.sparsity) > 1e-6:
            raise ValueError(f"{sparsity=} must be {structure.sparsity:g} with {structure}")
    return as_float(sparsity)


def check_structure(structure: Any) -> None:
    """Raises a ValueError unless it is None, a `Block` or an `NOfM`."""
    if not isinstance(structure, Structure):
        raise ValueError(f"{structure=} must be None, a Block or an NOfM")


def full_mask(params: Any, where: Where, structure: Structure) -> Any:
    """A mask that keeps all selected weights.

    Args:
        params: A tree of arrays.
        where: Selects leaves.
        structure: Of later masks; each selected leaf must fit it.

    Returns:
        The mask.

    Raises:
        ValueError: Nothing is selected, or a leaf that is not floating-point, or one that cannot
            be cut into whole blocks or groups.
    """
    chosen = selected(params, where)
    for path, leaf in chosen.items():
        if structure is not None and not structure.fits(leaf.shape):
            raise ValueError(f"{path!r} of shape {leaf.shape} does not divide into {structure}")
    return jax.tree.map(
        lambda path, leaf: (
            jnp.ones_like(leaf, dtype=bool) if path in chosen else optax.MaskedNode()
        ),
        path_names(params),
        params,
    )


def map_selected(
    function: Callable[..., Any],
    mask: Any,
    *trees: Any,
    otherwise: Callable[..., Any] = lambda *_: optax.MaskedNode(),
) -> Any:
    """Maps over the leaves that a mask selects.

    Args:
        function: Called with a boolean leaf of the mask and the leaves of the trees there.
        mask: The mask.
        *trees: Like the parameters.
        otherwise: Called with the trees' leaves where nothing is selected.

    Returns:
        A tree like the parameters.
    """

    def either(kept, *leaves):
        if isinstance(kept, optax.MaskedNode):
            return otherwise(*leaves)
        return function(kept, *leaves)

    return jax.tree.map(
        either, mask, *trees, is_leaf=lambda node: isinstance(node, optax.MaskedNode)
    )


def magnitudes_of(weights: jax.Array, kept: jax.Array) -> jax.Array:
    """|w| in float32, and -1 for weights already dropped, so that they rank lowest."""
    return jnp.where(kept, jnp.abs(weights.astype(jnp.float32)), -1.0)


def keep_above(
    magnitudes: jax.Array, threshold: Any, structure: Structure, is_last: jax.Array
) -> jax.Array:
    """Keeps what is larger than a threshold.

    Args:
        magnitudes: As `magnitudes_of` gives them.
        threshold: Float32 scalar, at least 0.
        structure: A block is kept if its largest weight is above the threshold. Of N:M groups
            the n largest are never dropped.
        is_last: Boolean scalar, read with N:M only: drop all but the n largest.

    Returns:
        Boolean array of the same shape.
    """
    if isinstance(structure, Block):
        return structure.spread(structure.reduce(magnitudes, jnp.max) > threshold)
    if isinstance(structure, NOfM):
        surplus = structure.ranks(magnitudes) < structure.m - structure.n
        return ~(surplus & (is_last | (magnitudes <= threshold)))
    return magnitudes > threshold


def keep_largest(
    magnitudes: jax.Array, sparsity: Any, progress: Any, structure: Structure
) -> jax.Array:
    """Drops the smallest share of a leaf, exactly round(progress * sparsity * size) weights.

    Among equals the first in row-major order go.

    Args:
        magnitudes: As `magnitudes_of` gives them.
        sparsity: The final share to drop.
        progress: Scalar in [0, 1]; 1 drops the final share.
        structure: Blocks are ranked by their mean magnitude. N:M drops the smallest
            round(progress * sparsity * m) of each group.

    Returns:
        Boolean array of the same shape.
    """
    if isinstance(structure, NOfM):
        return structure.ranks(magnitudes) >= dropped_count(sparsity, progress, structure.m)
    if isinstance(structure, Block):
        scores = structure.reduce(magnitudes, jnp.mean)
        return structure.spread(~_smallest(scores, dropped_count(sparsity, progress, scores.size)))
    return ~_smallest(magnitudes, dropped_count(sparsity, progress, magnitudes.size))


def dropped_count(sparsity: Any, progress: Any, size: int) -> jax.Array:
    """int32 round(progress * sparsity * size), exact once progress is 1.

    Before that it is rounded as float32 is: large leaves have more weights than that has whole
    numbers.
    """
    progress = jnp.asarray(progress, jnp.float32)
    final = jnp.asarray(
        round(sparsity * size) if is_concrete(sparsity) else jnp.round(sparsity * size)
    ).astype(jnp.int32)
    partial = jnp.round(progress * (sparsity * size)).astype(jnp.int32)
    return jnp.where(progress >= 1, final, jnp.minimum(partial, final))


def _smallest(scores: jax.Array, count: jax.Array) -> jax.Array:
    """Marks exactly `count` of the smallest scores, the first of equal ones.

    Bits of floats from zero up are in the order of the floats, so the last score to mark is found
    bit by bit, from the highest, by counting what is smaller. On a CPU that is several times
    faster than a sort, and needs no second array.
    """
    bits = jax.lax.bitcast_convert_type(scores.ravel(), jnp.int32)
    keys = jnp.maximum(bits, -1) + 1  # -1.0, for weights already dropped, becomes 0

    def set_bit(i, last):
        larger = last | jnp.left_shift(jnp.int32(1), 30 - i)
        return jnp.where(jnp.sum(keys < larger, dtype=jnp.int32) < count, larger, last)

    # A zero made of the keys varies over the same mesh axes as they do, under shard_map.
    last = jax.lax.fori_loop(0, 31, set_bit, keys[0] & 0)
    below = keys < last
    equal = keys == last
    room = count - jnp.sum(below, dtype=jnp.int32)
    marked = below | (equal & (jnp.cumsum(equal, dtype=jnp.int32) <= room))
    return marked.reshape(scores.shape)


def masked_update(kept: jax.Array, update: jax.Array, param: jax.Array) -> jax.Array:
    """The update of kept weights; minus the weight elsewhere, so that the sum is exactly zero.

    A `where` and not a product, because a product would let NaN * 0 through.
    """
    dtype = wider(update, param)
    return jnp.where(kept, update.astype(dtype), -param.astype(dtype))


def wider(update: jax.Array, param: jax.Array) -> jnp.dtype:
    """A dtype that holds both: -param rounded to half precision would not cancel param."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(update.dtype, param.dtype)
