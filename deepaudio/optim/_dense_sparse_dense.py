"""Dense-sparse-dense training."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from deepaudio.optim._masks import (
    Structure,
    check_real,
    check_sparsity,
    check_structure,
    check_whole,
    full_mask,
    is_concrete,
    keep_largest,
    magnitudes_of,
    map_selected,
    masked_update,
)
from deepaudio.optim._selection import Where, matrices


class DenseSparseDenseState(NamedTuple):
    """State of `dense_sparse_dense`.

    Attributes:
        count: int32 scalar, updates done.
        mask: Like the parameters: boolean leaves, true for weights kept (all of them in dense
            phases), and `optax.MaskedNode()` where `where` does not select.
    """

    count: jax.Array
    mask: Any


def dense_sparse_dense(
    *,
    dense_steps: int,
    sparse_steps: int,
    redense_steps: int | None = None,
    sparsity: float = 0.3,
    redense_scale: float = 0.1,
    repeats: int = 1,
    where: Where | None = matrices,
    structure: Structure = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Trains dense, then sparse as a regularizer, then dense again (DSD).

    Put it last in a chain, or before `gradual_pruning`.

    Time :math:`t` is the number of updates done before this one: 0 at the first.

    - dense, :math:`t < dense\_steps`: updates pass;
    - sparse, the next `sparse_steps` updates: at the first, the smallest `sparsity` of each
      leaf's weights :math:`w_t` by rank are dropped (of equal ones the first in row-major order),
      and until the phase ends :math:`w_{t+1} = m \odot (w_t + u_t)`, so they are exactly zero;
    - dense again: the mask is lifted, dropped weights start from zero, and all updates are
      multiplied by `redense_scale`, which is the same as so much less learning rate.

    With `repeats` the last two phases come again and again, each sparse phase with a mask of its
    own and the full updates. After the last sparse phase training stays dense. Where a leaf is
    sharded inside `jax.shard_map`, each shard is ranked alone; under `jit` the whole leaf is.

    Momentum gathered in the sparse phase is not cleared: with it, a dropped weight's first step
    after the mask is lifted has the direction that its gradients had all along.

    `optax.inject_hyperparams` takes callables for schedules: name `where` in its `static_args`,
    or leave it at None. Numbers that come as arrays are not checked.

    Args:
        dense_steps: Updates of the first dense phase; 0 starts from a trained model.
        sparse_steps: Updates of each sparse phase.
        redense_steps: Updates of each later dense phase but the last, which has no end; read with
            `repeats` above 1 only.
        sparsity: Share of each leaf that is dropped, in [0, 1); the paper uses 0.25 to 0.5.
        redense_scale: Factor of all updates, of leaves not selected too, in later dense phases.
        repeats: How many sparse phases there are.
        where: Selects the leaves to prune by path and leaf; None for `matrices`.
        structure: None for single weights; `Block` for blocks ranked by their mean magnitude;
            `NOfM` for the n largest of every m, where `sparsity` must be 1 - n/m.

    Returns:
        The transformation; its update needs `params`. `init` raises a ValueError if `where`
        selects nothing or a leaf that is not floating-point, or if a leaf does not divide into
        the structure.

    Raises:
        ValueError: `dense_steps` is negative, another number of steps or `repeats` is less than
            1, `repeats` is above 1 without `redense_steps`, `sparsity` is not in [0, 1), or
            `redense_scale` is negative.

    Examples:
        >>> import jax.numpy as jnp, optax
        >>> from deepaudio import optim
        >>> optimizer = optax.chain(
        ...     optax.sgd(0.5),
        ...     optim.dense_sparse_dense(
        ...         dense_steps=1, sparse_steps=2, sparsity=0.5, redense_scale=0.25
        ...     ),
        ... )
        >>> params = {"kernel": jnp.array([[1.0, -4.0], [3.0, -1.0]])}
        >>> state = optimizer.init(params)
        >>> for _ in range(4):
        ...     grads = {"kernel": jnp.ones((2, 2))}
        ...     updates, state = optimizer.update(grads, state, params)
        ...     params = optax.apply_updates(params, updates)
        ...     print(params["kernel"].tolist())
        [[0.5, -4.5], [2.5, -1.5]]
        [[0.0, -5.0], [2.0, 0.0]]
        [[0.0, -5.5], [1.5, 0.0]]
        [[-0.125, -5.625], [1.375, -0.125]]

    References:
        Han et al., `DSD: Dense-Sparse-Dense Training for Deep Neural Networks
        <https://arxiv.org/abs/1607.04381>`_, 2017, algorithm 1
    """
    check_structure(structure)
    where = matrices if where is None else where
    sparsity = check_sparsity(sparsity, structure)
    redense_scale = check_real("redense_scale", redense_scale)
    dense_steps = check_whole("dense_steps", dense_steps, 0)
    sparse_steps = check_whole("sparse_steps", sparse_steps, 1)
    repeats = check_whole("repeats", repeats, 1)
    if redense_steps is None:
        if is_concrete(repeats) and repeats > 1:
            raise ValueError(f"{redense_steps=} must be given with {repeats=}")
        # With one sparse phase the cycle's length does not matter.
        redense_steps = 1
    cycle = sparse_steps + check_whole("redense_steps", redense_steps, 1)

    def init_fn(params):
        return DenseSparseDenseState(jnp.zeros([], jnp.int32), full_mask(params, where, structure))

    def update_fn(updates, state, params=None, **extra_args):
        del extra_args
        if params is None:
            raise ValueError("dense_sparse_dense needs params: update(updates, state, params)")
        since = state.count - dense_steps
        # Of the sparse phase that is now or was last.
        within = since - jnp.clip(since // cycle, 0, repeats - 1) * cycle
        prunes, lifts = within == 0, within == sparse_steps

        def take(kept, param):
            magnitudes = magnitudes_of(param, jnp.ones_like(kept))
            return keep_largest(magnitudes, sparsity, 1.0, structure)

        mask = jax.lax.switch(
            prunes.astype(jnp.int32) + 2 * lifts.astype(jnp.int32),
            [
                lambda: state.mask,
                lambda: map_selected(take, state.mask, params),
                lambda: jax.tree.map(jnp.ones_like, state.mask),
            ],
        )
        factor = jnp.where(within >= sparse_steps, redense_scale, 1.0)
        updates = jax.tree.map(lambda update: update * factor.astype(update.dtype), updates)
        updates = map_selected(
            masked_update, mask, updates, params, otherwise=lambda update, _: update
        )
        return updates, DenseSparseDenseState(optax.safe_increment(state.count), mask)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
