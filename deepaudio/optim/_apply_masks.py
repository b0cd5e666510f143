"""Masks of an optimizer's state applied to other trees, such as averaged parameters."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from deepaudio.optim._dense_sparse_dense import DenseSparseDenseState
from deepaudio.optim._gradual_pruning import GradualPruningState
from deepaudio.optim._masks import map_selected

_MASKED = (GradualPruningState, DenseSparseDenseState)


def apply_masks(params: Any, opt_state: optax.OptState) -> Any:
    """Sets to zero what the masks in an optimizer's state hold at zero.

    A moving average of parameters, for one, forgets a pruned weight only slowly.

    Args:
        params: A tree of arrays like the parameters.
        opt_state: State with `gradual_pruning` or `dense_sparse_dense` at any depth, or with
            neither.

    Returns:
        The tree, zero where a mask is false.

    Examples:
        >>> from deepaudio import optim
        >>> prune = optim.gradual_pruning(
        ...     start=0, end=1, frequency=1, sparsity=0.5, schedule="cubic"
        ... )
        >>> params = {"kernel": jnp.array([[1.0, 2.0]])}
        >>> state = prune.init(params)
        >>> for _ in range(2):
        ...     _, state = prune.update({"kernel": jnp.zeros((1, 2))}, state, params)
        >>> apply_masks({"kernel": jnp.array([[3.0, 4.0]])}, state)["kernel"].tolist()
        [[0.0, 4.0]]
    """
    for state in jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, _MASKED)):
        if isinstance(state, _MASKED):
            params = map_selected(_keep, state.mask, params, otherwise=lambda leaf: leaf)
    return params


def _keep(kept, leaf):
    return jnp.where(kept, leaf, jnp.zeros_like(leaf))
