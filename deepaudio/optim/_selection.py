"""Which leaves of a parameter tree a transformation works on."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# (path such as "encoder/lstm/kernel", leaf) -> whether the leaf is selected.
Where = Callable[[str, jax.Array], bool]
# (path, leaf) -> name of the layer's type; leaves of one type share one threshold.
LayerType = Callable[[str, jax.Array], str]

# The hidden-to-hidden kernels of flax's LSTM, GRU, MGU and simple cells.
_FLAX_RECURRENT = frozenset({"hi", "hf", "hg", "ho", "hr", "hz", "hn", "h"})


def path_names(tree: Any) -> Any:
    """Replaces each leaf by its path.

    Args:
        tree: Any tree.

    Returns:
        A tree of the same structure with str leaves: dictionary keys, attributes and indices,
        joined by "/".

    >>> path_names({"encoder": {"kernel": 1.0, "biases": [2.0, 3.0]}})
    {'encoder': {'biases': ['encoder/biases/0', 'encoder/biases/1'], 'kernel': 'encoder/kernel'}}
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, _: jax.tree_util.keystr(path, simple=True, separator="/"), tree
    )


def matrices(path: str, leaf: jax.Array) -> bool:
    """Selects the weights of recurrent and fully connected layers.

    These are what Narang et al. prune (arXiv 1704.05119, section 3). Left out are scalars and
    vectors; leaves called bias or scale, which may be stacked over directions or layers; and
    convolutions: leaves of four axes or more, and those of three axes in a module whose name has
    "conv" in it. Other leaves of three axes are stacks of matrices.

    Args:
        path: Of the leaf, as `path_names` gives it.
        leaf: The parameter.

    Returns:
        Whether it is a floating-point matrix, or a stack of them.
    """
    if not jnp.issubdtype(leaf.dtype, jnp.floating) or leaf.ndim not in (2, 3):
        return False
    name = path.rsplit("/", 1)[-1].lower()
    if "bias" in name or name == "scale":
        return False
    return leaf.ndim == 2 or "conv" not in path.lower()


def recurrent_or_dense(path: str, leaf: jax.Array) -> str:
    """The default layer type.

    Args:
        path: Of the leaf, as `path_names` gives it.
        leaf: The parameter.

    Returns:
        "recurrent" for a hidden-to-hidden kernel: "recurrent" is in the path, or the module has
        the name that flax's cells give such a kernel. Otherwise "dense".
    """
    del leaf
    parts = path.lower().split("/")
    recurrent = any("recurrent" in part for part in parts)
    recurrent |= len(parts) > 1 and parts[-1] == "kernel" and parts[-2] in _FLAX_RECURRENT
    return "recurrent" if recurrent else "dense"


def selected(params: Any, where: Where) -> dict[str, jax.Array]:
    """The leaves that `where` selects, by path.

    Args:
        params: A tree of arrays.
        where: Selects leaves.

    Returns:
        Path to leaf, in the tree's order.

    Raises:
        ValueError: Nothing is selected, or a leaf that is not floating-point.
    """
    paths = jax.tree.leaves(path_names(params))
    leaves = jax.tree.leaves(params)
    chosen = {path: leaf for path, leaf in zip(paths, leaves, strict=True) if where(path, leaf)}
    if not chosen:
        name = getattr(where, "__name__", repr(where))
        raise ValueError(f"where={name} selects none of the {len(leaves)} leaves: {paths[:5]}")
    for path, leaf in chosen.items():
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(f"where selects {path!r} of dtype {leaf.dtype}, which is not floating")
    return chosen
