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
    momentum: float | None = None,
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
        momentum: Of stochastic gradient descent with Nesterov's momentum; None for Adam.
        weight_decay: Decoupled (AdamW), on matrices and kernels only; 0 for none.
        sparsity: `gradual_pruning`, `dense_sparse_dense`, or none.
        loss_scaling: Arguments of `dynamic_loss_scaling`; None to go without it.

    Returns:
        The transformation.

    Raises:
        ValueError: The momentum is not in [0, 1).

    Examples:
        >>> import jax.numpy as jnp
        >>> optimizer = make_optimizer(1e-3, max_gradient_norm=3.0, loss_scaling={})
        >>> state = optimizer.init({"kernel": jnp.ones((2, 2))})
        >>> float(optax.tree.get(state, "loss_scale"))
        32768.0
    """
    if momentum is not None and not 0 <= momentum < 1:
        raise ValueError(f"{momentum=} must be in [0, 1)")
    if momentum is None:
        descend = optax.adamw(learning_rate, weight_decay=weight_decay, mask=_is_matrix)
    else:
        descend = optax.chain(
            optax.trace(momentum, nesterov=True),
            optax.add_decayed_weights(weight_decay, mask=_is_matrix),
            optax.scale_by_learning_rate(learning_rate),
        )
    chain = optax.chain(optax.clip_by_global_norm(max_gradient_norm), descend, *sparsity)
    return chain if loss_scaling is None else dynamic_loss_scaling(chain, **loss_scaling)


def _is_matrix(params):
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
