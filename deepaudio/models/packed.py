"""Pruned weights in packed form: made of a pruned model's variables, kept in files, and run.

Packed matrices stand in a collection of their own beside the parameters that they replace:
`{"params": …, "batch_stats": …, "packed": {"recurrent_0": {"recurrent_kernel": …}}}`. A matrix is a
`PackedMatrix`, a stack of matrices a tuple of them.
"""

import warnings
from typing import Any, Literal

import flax.traverse_util
import numpy as np

from deepaudio.kernels import sparse

COLLECTION = "packed"
# What the recurrent layers multiply with one frame at a time. Other matrices see a piece of sound
# at once, which a dense product does faster.
_RUN_PACKED = "recurrent_kernel"

Variables = dict[str, Any]


def pack_weights(
    variables: Variables, *, dtype: Literal["bfloat16", "float16"] = "float16"
) -> Variables:
    """Packs the pruned matrices of a model.

    Args:
        variables: `{"params": …}` and other collections, nested dicts of concrete arrays, as
            `load_weights` or a training run gives them.
        dtype: Of the packed values. float16 is what weights files keep, so that packing changes
            nothing of their weights; bfloat16 reaches further.

    Returns:
        The variables, with every matrix (or stack of matrices; not convolutions) that is at least
        70 % zero moved to the collection "packed". Where none is, a warning, and the variables as
        they were.

    Raises:
        ValueError: A matrix is not finite in `dtype`, or has more than 65536 inputs.
    """
    flat = flax.traverse_util.flatten_dict(variables["params"])
    packed = {
        path: _packed(leaf, dtype)
        for path, leaf in flat.items()
        if _is_matrix(path, leaf) and sparse.zero_share(leaf) >= sparse.MIN_SPARSITY
    }
    if not packed:
        most = max((sparse.zero_share(x) for p, x in flat.items() if _is_matrix(p, x)), default=0)
        warnings.warn(
            f"no matrix of the model is {100 * sparse.MIN_SPARSITY:.0f} % zero or more (at most "
            f"{100 * most:.1f} %), so packing gains nothing: it stays dense",
            stacklevel=2,
        )
        return variables
    rest = {path: leaf for path, leaf in flat.items() if path not in packed}
    return {
        **variables,
        "params": flax.traverse_util.unflatten_dict(rest),
        COLLECTION: flax.traverse_util.unflatten_dict(packed),
    }


def _is_matrix(path, leaf):
    return leaf.ndim == 2 or (leaf.ndim == 3 and not any("conv" in name for name in path))


def _packed(leaf, dtype):
    if leaf.ndim == 2:
        return _pack_one(leaf, dtype)
    return tuple(_pack_one(matrix, dtype) for matrix in leaf)


def _pack_one(matrix, dtype):
    # One matrix of a stack may be denser than all of them together.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return sparse.pack(matrix, dtype=dtype)


def unpack_weights(variables: Variables, *, keep: str | None = None) -> Variables:
    """The inverse of `pack_weights`, but for rounding.

    Args:
        variables: Perhaps with packed matrices.
        keep: Last name of those that stay packed; None for none.

    Returns:
        The variables with dense float32 matrices in `params`.
    """
    flat = flax.traverse_util.flatten_dict(variables.get(COLLECTION, {}))
    kept = {path: leaf for path, leaf in flat.items() if path[-1] == keep}
    dense = {path: _unpacked(leaf) for path, leaf in flat.items() if path[-1] != keep}
    params = flax.traverse_util.flatten_dict(variables["params"])
    found = {name: tree for name, tree in variables.items() if name != COLLECTION}
    found["params"] = flax.traverse_util.unflatten_dict(params | dense)
    if kept:
        found[COLLECTION] = flax.traverse_util.unflatten_dict(kept)
    return found


def _unpacked(leaf):
    if isinstance(leaf, tuple):
        return np.stack([_unpacked(matrix) for matrix in leaf])
    return sparse.unpack(leaf) if isinstance(leaf, sparse.PackedMatrix) else np.asarray(leaf)


def runnable_weights(variables: Variables) -> Variables:
    """Packed variables as the networks run them: recurrent matrices packed, all others dense.

    Args:
        variables: Of `pack_weights`.

    Returns:
        What a network's `apply` takes.
    """
    return unpack_weights(variables, keep=_RUN_PACKED)


def encode(tree: Variables) -> Variables:
    """The collection "packed" as nested dicts of plain arrays, for a file.

    Args:
        tree: Nested dicts of packed matrices and tuples of them.

    Returns:
        Nested dicts of numpy arrays; a stack's matrices are named "0", "1" and so on.
    """
    flat = flax.traverse_util.flatten_dict(tree)
    return flax.traverse_util.unflatten_dict({path: _encoded(leaf) for path, leaf in flat.items()})


def _encoded(leaf):
    if isinstance(leaf, tuple):
        return {str(number): _encoded(matrix) for number, matrix in enumerate(leaf)}
    if isinstance(leaf, sparse.PackedMatrix):
        return sparse.to_arrays(leaf)
    return {"dense": np.asarray(leaf, np.float32)}


def decode(tree: Variables) -> Variables:
    """The inverse of `encode`.

    Args:
        tree: As `encode` gives it, perhaps from a damaged file.

    Returns:
        The collection "packed".

    Raises:
        ValueError: Arrays are missing or do not fit each other.
    """
    if not isinstance(tree, dict) or not tree:
        raise ValueError("no packed matrix where one must be")
    if all(name.isdigit() for name in tree):
        return tuple(decode(tree[str(number)]) for number in range(len(tree)))
    if set(tree) == {"dense"}:
        return tree["dense"]
    if "deltas" in tree:
        return sparse.from_arrays(tree)
    return {name: decode(inner) for name, inner in tree.items()}
