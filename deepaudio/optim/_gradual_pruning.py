"""Gradual magnitude pruning during training."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from deepaudio.optim._masks import (
    Structure,
    check_sparsity,
    check_structure,
    full_mask,
    magnitudes_of,
    map_selected,
    masked_update,
    wider,
)
from deepaudio.optim._pruning_schedules import (
    PerType,
    check_steps,
    cubic_rule,
    pruning_threshold,
    threshold_rule,
)
from deepaudio.optim._selection import (
    LayerType,
    Where,
    matrices,
    path_names,
    recurrent_or_dense,
    selected,
)

__all__ = ["GradualPruningState", "estimate_q", "gradual_pruning", "pruning_threshold"]


class GradualPruningState(NamedTuple):
    """State of `gradual_pruning`.

    Attributes:
        count: int32 scalar, updates done.
        mask: Like the parameters: boolean leaves, true for weights kept, and
            `optax.MaskedNode()` where `where` does not select.
        shadow: With `regrow`, the values that the weights would have without the mask, in the
            parameters' dtypes, `optax.MaskedNode()` where not selected; otherwise ().
    """

    count: jax.Array
    mask: Any
    shadow: Any


def gradual_pruning(
    *,
    start: int,
    ramp: int | None = None,
    end: int,
    frequency: int = 100,
    q: PerType | None = None,
    theta: PerType | None = None,
    phi: PerType | None = None,
    sparsity: float | None = None,
    schedule: Literal["threshold", "cubic"] = "threshold",
    where: Where | None = matrices,
    layer_type: LayerType | None = None,
    regrow: bool = False,
    structure: Structure = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Prunes small weights during training, more and more of them.

    Put it last in a chain. It replaces the updates of pruned weights by minus the weights, so they
    are exactly zero after `optax.apply_updates`, whatever momentum or weight decay came before.

    Time :math:`t` is the number of updates done before this one: 0 at the first. At the mask steps
    the weights :math:`w_t`, before the update, give the mask :math:`m`, and every update ends with
    :math:`w_{t+1} = m \odot (w_t + u_t)`. Other steps cost one `where` a leaf.

    With `schedule="threshold"` the mask steps are the multiples of `frequency` with
    :math:`start < t < end`, and the mask keeps :math:`|w_t| > \epsilon` (`pruning_threshold`),
    where :math:`\theta = 2 q f / (2 (ramp - start) + 3 (end - ramp))` and
    :math:`\phi = 1.5 \theta`, so that :math:`\epsilon` ends at about `q`.

    With `schedule="cubic"` they are every `frequency` steps from `start`, and `end` itself, and
    the mask drops the smallest :math:`s_t = s (1 - (1 - (t - start)/(end - start))^3)` of each
    leaf by rank; of equal weights the first in row-major order go.

    A weight once dropped stays so, unless `regrow`. After `end` the mask is held. Where a leaf is
    sharded inside `jax.shard_map`, each shard is ranked alone; under `jit` the whole leaf is.

    `optax.inject_hyperparams` takes callables for schedules: name `where` and `layer_type` in its
    `static_args`, or leave them at None. Numbers that come as arrays are not checked.

    Args:
        start: Nothing is pruned up to this step.
        ramp: Step from which the threshold grows with `phi`. Only "threshold" reads it; otherwise
            it may be None.
        end: Last step of the schedule.
        frequency: Steps between masks.
        q: The final threshold, in the weights' unit: a high percentile of the magnitudes of a
            trained dense model (`estimate_q`). A number, or a mapping from layer type to number.
        theta: The threshold's growth each `frequency` steps, instead of `q`; likewise.
        phi: The growth after `ramp`, with `theta` only; None for 1.5 `theta`.
        sparsity: Final share of each leaf that is pruned, in [0, 1); "cubic" only.
        schedule: "threshold" (Narang et al.) or "cubic" (Zhu and Gupta).
        where: Selects the leaves to prune by path and leaf; None for `matrices`.
        layer_type: From path and leaf to the name of the layer's type; None for "recurrent" or
            "dense" (hidden-to-hidden kernels, by name, or anything else).
        regrow: Whether pruned weights may come back. The state then keeps the values that they
            would have; these go on receiving updates, and each mask is taken anew from them.
        structure: None for single weights. `Block` keeps or drops whole blocks, by their largest
            magnitude ("threshold") or mean magnitude ("cubic"). `NOfM` never drops the n largest
            of a group: "threshold" drops of the others those not above it, and the last mask step
            all of them; "cubic" drops round((m - n) s_t / s) of each group, where `sparsity` must
            be 1 - n/m.

    Returns:
        The transformation; its update needs `params`. `init` raises a ValueError if `where`
        selects nothing or a leaf that is not floating-point, if a mapping lacks a layer type or
        has one that no leaf is of, or if a leaf does not divide into the structure.

    Raises:
        ValueError: A step is negative, `ramp` is not in [start, end], `end` is not after `start`,
            `frequency` is less than 1 or leaves no mask step, `sparsity` is not in [0, 1), `q`,
            `theta` or `phi` is negative, or not exactly one of `q`, `theta` and `sparsity` (the
            last with "cubic", and only then) is given.

    Examples:
        >>> import jax.numpy as jnp, optax
        >>> from deepaudio import optim
        >>> optimizer = optax.chain(
        ...     optax.adam(1e-3),
        ...     optim.gradual_pruning(start=0, end=4, frequency=1, sparsity=0.5, schedule="cubic"),
        ... )
        >>> params = {"kernel": jnp.array([[0.1, -0.4], [0.3, -0.2]])}
        >>> state = optimizer.init(params)
        >>> for _ in range(5):
        ...     updates, state = optimizer.update(params, state, params)
        ...     params = optax.apply_updates(params, updates)
        >>> (params["kernel"] == 0).tolist()
        [[True, False], [False, True]]

    References:
        Narang et al., `Exploring Sparsity in Recurrent Neural Networks
        <https://arxiv.org/abs/1704.05119>`_, 2017, section 3 and algorithm 1

        Zhu and Gupta, `To prune, or not to prune <https://arxiv.org/abs/1710.01878>`_, 2017,
        equation 1

        Guo et al., `Dynamic Network Surgery for Efficient DNNs
        <https://arxiv.org/abs/1608.04493>`_, 2016 (`regrow`)

        Mishra et al., `Accelerating Sparse Deep Neural Networks
        <https://arxiv.org/abs/2104.08378>`_, 2021 (`NOfM`)
    """
    check_structure(structure)
    where = matrices if where is None else where
    steps = check_steps(start, ramp, end, frequency)
    if schedule == "threshold":
        _refuse(schedule, sparsity=sparsity)
        layer_type = recurrent_or_dense if layer_type is None else layer_type
        rule = threshold_rule(steps, q, theta, phi, layer_type, structure)
    elif schedule == "cubic":
        _refuse(schedule, q=q, theta=theta, phi=phi, layer_type=layer_type)
        rule = cubic_rule(steps, sparsity, structure)
    else:
        raise ValueError(f"{schedule=} must be 'threshold' or 'cubic'")

    def init_fn(params):
        mask = full_mask(params, where, structure)
        rule.check(selected(params, where))
        shadow = map_selected(lambda _, param: jnp.copy(param), mask, params) if regrow else ()
        return GradualPruningState(jnp.zeros([], jnp.int32), mask, shadow)

    def update_fn(updates, state, params=None, **extra_args):
        del extra_args
        if params is None:
            raise ValueError("gradual_pruning needs params: update(updates, state, params)")

        # Weights before the update: they lie in memory anyway, where the updates are still a
        # formula that the compiler joins with their use.
        def take(kept, path, param, *shadow):
            if regrow:
                weights, candidates = jnp.where(kept, param, *shadow), jnp.ones_like(kept)
            else:
                weights, candidates = param, kept
            magnitudes = magnitudes_of(weights, candidates)
            return candidates & rule.keep(state.count, path, param, magnitudes)

        shadows = (state.shadow,) if regrow else ()
        mask = jax.lax.cond(
            rule.is_due(state.count),
            lambda: map_selected(take, state.mask, path_names(params), params, *shadows),
            lambda: state.mask,
        )
        if regrow:
            updates, shadow = _regrown(state, mask, updates, params)
        else:
            updates = map_selected(
                masked_update, mask, updates, params, otherwise=lambda update, _: update
            )
            shadow = ()
        return updates, GradualPruningState(optax.safe_increment(state.count), mask, shadow)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _refuse(schedule: str, **unread: Any) -> None:
    """Raises a ValueError if an argument is given that this schedule does not read."""
    for name, value in unread.items():
        if value is not None:
            raise ValueError(f"{name}={value} is not read with {schedule=}")


def _regrown(state: GradualPruningState, mask: Any, updates: Any, params: Any) -> tuple[Any, Any]:
    """Updates under a new mask that may bring weights back, and the new shadow."""

    def moved(was_kept, shadow, update, param):
        dtype = wider(update, param)
        return jnp.where(was_kept, param, shadow).astype(dtype) + update.astype(dtype)

    def emit(kept, was_kept, shadow, update, param):
        # Weights that come back go to the shadow's value; kept ones get their update unrounded.
        back = moved(was_kept, shadow, update, param)
        back = back - param.astype(back.dtype)
        return masked_update(kept, jnp.where(was_kept, update.astype(back.dtype), back), param)

    emitted = map_selected(
        emit, mask, state.mask, state.shadow, updates, params, otherwise=lambda *leaves: leaves[2]
    )
    shadow = map_selected(
        lambda *leaves: moved(*leaves).astype(leaves[-1].dtype),
        state.mask,
        state.shadow,
        updates,
        params,
    )
    return emitted, shadow


def estimate_q(
    params: Any,
    sparsity: float = 0.9,
    *,
    where: Where = matrices,
    layer_type: LayerType | None = None,
) -> dict[str, float]:
    """A final threshold for each layer type, from a trained dense model.

    It is the magnitude below which the wanted share of that type's weights lies, 90 % in the
    paper (arXiv 1704.05119, section 3.2); the weights of all layers of a type count together.

    Args:
        params: Parameters of the trained model.
        sparsity: The share to prune, in [0, 1).
        where: Selects the leaves that count.
        layer_type: From path and leaf to the type; None as in `gradual_pruning`.

    Returns:
        Layer type to `q`, as `gradual_pruning` takes it.

    Raises:
        ValueError: `sparsity` is not in [0, 1), or nothing or a leaf that is not floating-point
            is selected.

    >>> params = {"dense": {"kernel": jnp.linspace(-1.0, 1.0, 201).reshape(3, 67)}}
    >>> {name: round(q, 3) for name, q in estimate_q(params, 0.9).items()}
    {'dense': 0.9}
    """
    check_sparsity(sparsity, None)
    layer_type = recurrent_or_dense if layer_type is None else layer_type
    groups: dict[str, list[jax.Array]] = {}
    for path, leaf in selected(params, where).items():
        magnitudes = jnp.abs(leaf.astype(jnp.float32)).ravel()
        groups.setdefault(layer_type(path, leaf), []).append(magnitudes)
    return {
        name: float(jnp.quantile(jnp.concatenate(group), sparsity))
        for name, group in groups.items()
    }
