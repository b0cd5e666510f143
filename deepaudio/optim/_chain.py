"""The chain that joins the transformations of this package."""

from collections.abc import Sequence
from typing import Any

import jax
import optax

from deepaudio.optim._loss_scaling import dynamic_loss_scaling


def make_optimizer(
    learning_rate: optax.ScalarOrSchedule,
    *,
    max_gradient_norm: float,
    weight_decay: float = 0.0,
    sparsity: Sequence[optax.GradientTransformation] = (),
    loss_scaling: dict[str, Any] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Unscaling, clipping, Adam, weight decay and sparsity, in the order in which they are right.

    Gradients are unscaled first and clipped before Adam sees them; masks come last, because what
    follows a mask would move the weights that it holds at zero.

    Args:
        learning_rate: A number, or a function from the step to one.
        max_gradient_norm: Gradients are scaled down to this global norm.
        weight_decay: Decoupled (AdamW), on matrices and kernels only; 0 for Adam.
        sparsity: `gradual_pruning`, `dense_sparse_dense`, or none.
        loss_scaling: Arguments of `dynamic_loss_scaling`; None to go without it.

    Returns:
        The transformation.

    Examples:
        >>> import jax.numpy as jnp
        >>> optimizer = make_optimizer(1e-3, max_gradient_norm=3.0, loss_scaling={})
        >>> state = optimizer.init({"kernel": jnp.ones((2, 2))})
        >>> float(optax.tree.get(state, "loss_scale"))
        32768.0
    """
    chain = optax.chain(
        optax.clip_by_global_norm(max_gradient_norm),
        optax.adamw(learning_rate, weight_decay=weight_decay, mask=_is_matrix),
        *sparsity,
    )
    return chain if loss_scaling is None else dynamic_loss_scaling(chain, **loss_scaling)


def _is_matrix(params):
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
