"""Dynamic loss scaling as a wrapper around an optimizer: overflowed steps are skipped."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

_FLOAT32_MAX = float(jnp.finfo(jnp.float32).max)


class DynamicLossScalingState(NamedTuple):
    """State of `dynamic_loss_scaling`.

    Attributes:
        loss_scale: () float32, by which the next loss is multiplied (see `scale_loss`).
        good_steps: () int32, finite steps in a row since the last overflow or growth.
        overflows_left: () int32, overflows that remain until the scale backs off.
        skipped: () int32, steps skipped since the start.
        ran: () bool, whether the last update ran the inner transformation; True at the start.
        inner_state: State of the wrapped transformation.
    """

    loss_scale: jax.Array
    good_steps: jax.Array
    overflows_left: jax.Array
    skipped: jax.Array
    ran: jax.Array
    inner_state: Any


def dynamic_loss_scaling(
    inner: optax.GradientTransformation,
    *,
    initial_scale: float = 2.0**15,
    growth_interval: int = 2000,
    growth_factor: float = 2.0,
    backoff_factor: float = 0.5,
    min_scale: float = 1.0,
    max_scale: float = 2.0**24,
    hysteresis: int = 1,
    dynamic: bool = True,
) -> optax.GradientTransformationExtraArgs:
    r"""Unscales the gradients of a scaled loss; runs `inner` if they are finite, else skips.

    The loss is multiplied by the scale :math:`s` so that small gradients survive float16:

    .. math::
        g = \nabla (s L) / s \quad\text{(in float32)}

    If every number of :math:`g` is finite, `inner` turns it into the update. If one is not, the
    updates are zero and the state of `inner` (moments, counters, schedules, masks) stays as it
    is, bit for bit: `inner` is not even run. In either case the scale moves by this rule:

    - after a finite step, ``good_steps += 1``; when it reaches `growth_interval`, the scale is
      multiplied by `growth_factor` up to `max_scale`, ``good_steps`` goes back to 0 and
      ``overflows_left`` to `hysteresis`;
    - after an overflow, ``good_steps`` goes back to 0 and ``overflows_left`` falls by one, not
      below 0; when it is 0, the scale is multiplied by `backoff_factor` down to `min_scale`.

    So the first ``hysteresis - 1`` overflows since the start, or since the scale was last due to
    grow, only skip their step, and every later one lowers the scale too, as in NVIDIA's
    Megatron-LM. With ``hysteresis=1`` every overflow lowers it.

    Clipping, weight decay, pruning and all else that reads gradients belongs inside. For gradient
    accumulation put `optax.MultiSteps` inside as well: around this wrapper it would keep
    an overflow in its accumulator for ever (it resets it by multiplying by zero).

    The gradients must be the mean over all devices, as they are under `jax.jit`, and under
    `jax.shard_map` after `jax.lax.pmean`, so that all devices decide alike.

    Args:
        inner: The transformation to wrap.
        initial_scale: The first scale.
        growth_interval: Finite steps in a row before the scale grows; at least 1.
        growth_factor: By which it grows; above 1.
        backoff_factor: By which it falls; between 0 and 1.
        min_scale: The scale does not fall below; above 0.
        max_scale: The scale does not grow above; finite in float32.
        hysteresis: Overflows before the scale falls; at least 1.
        dynamic: False keeps the scale, ``good_steps`` and ``overflows_left`` as they are.
            Overflowed steps are skipped all the same.

    Returns:
        The transformation. Gradients may be of any floating dtype. They are unscaled in float32
        (float64 stays) and reach `inner` in the dtype of their parameter, or in float32 without
        parameters; updates leave in that dtype. What else `update` is given goes to `inner`.

    Raises:
        ValueError: An argument is out of range; from `init`, a parameter is not of a floating
            dtype.

    Examples:
        >>> import jax, jax.numpy as jnp, optax
        >>> from deepaudio import optim
        >>> optimizer = optim.dynamic_loss_scaling(optax.sgd(0.5), initial_scale=1024.0)
        >>> params = {"w": jnp.float32(3.0)}
        >>> state = optimizer.init(params)
        >>> def loss(params, state):
        ...     half = params["w"].astype(jnp.float16)
        ...     return optim.scale_loss(half**2, state)
        >>> grads = jax.grad(loss)(params, state)
        >>> updates, state = optimizer.update(grads, state, params)
        >>> print(updates["w"], bool(state.ran))
        -3.0 True
        >>> updates, state = optimizer.update({"w": jnp.float16(jnp.inf)}, state, params)
        >>> print(updates["w"], state.loss_scale, bool(state.ran))
        0.0 512.0 False

    References:
        Micikevicius et al., Mixed Precision Training, arXiv 1710.03740, section 3.2: loss
        scaling, and skipping the update on overflow. The rule's numbers are those that
        frameworks have settled on since.
    """
    _check(growth_factor > 1, f"{growth_factor=} must be above 1")
    _check(0 < backoff_factor, f"{backoff_factor=} must be above 0")
    _check(backoff_factor < 1, f"{backoff_factor=} must be below 1")
    _check(min_scale > 0, f"{min_scale=} must be above 0")
    _check(min_scale <= initial_scale, f"{initial_scale=} must be at least {min_scale=}")
    _check(initial_scale <= max_scale, f"{initial_scale=} must be at most {max_scale=}")
    _check(max_scale <= _FLOAT32_MAX, f"{max_scale=} must be finite in float32")
    _check(growth_interval >= 1, f"{growth_interval=} must be at least 1")
    _check(hysteresis >= 1, f"{hysteresis=} must be at least 1")
    inner = optax.with_extra_args_support(inner)

    def init_fn(params):
        _check_floating(params)
        return DynamicLossScalingState(
            loss_scale=jnp.asarray(initial_scale, jnp.float32),
            good_steps=jnp.zeros((), jnp.int32),
            overflows_left=jnp.asarray(hysteresis, jnp.int32),
            skipped=jnp.zeros((), jnp.int32),
            ran=jnp.ones((), jnp.bool_),
            inner_state=inner.init(params),
        )

    def next_scale(state, finite):
        good_steps = jnp.where(finite, state.good_steps + 1, 0)
        overflows_left = jnp.where(
            finite, state.overflows_left, jnp.maximum(state.overflows_left - 1, 0)
        )
        grow = good_steps >= growth_interval
        fall = ~finite & (overflows_left == 0)
        larger = jnp.minimum(state.loss_scale * growth_factor, max_scale)
        smaller = jnp.maximum(state.loss_scale * backoff_factor, min_scale)
        loss_scale = jnp.where(grow, larger, jnp.where(fall, smaller, state.loss_scale))
        return (
            loss_scale.astype(jnp.float32),
            jnp.where(grow, 0, good_steps),
            jnp.where(grow, jnp.asarray(hysteresis, jnp.int32), overflows_left),
        )

    def update_fn(updates, state, params=None, **extra_args):
        finite = _all_finite(_unscale(updates, state.loss_scale, params))

        # Unscaling once more inside costs nothing, as it fuses with what `inner` does first;
        # handing the unscaled gradients in would write and read them all once more.
        def run():
            grads = _unscale(updates, state.loss_scale, params)
            new, inner_state = inner.update(grads, state.inner_state, params, **extra_args)
            return jax.tree.map(lambda u, g: u.astype(g.dtype), new, grads), inner_state

        def skip():
            zeros = jax.tree.map(jnp.zeros_like, _unscale(updates, state.loss_scale, params))
            return zeros, state.inner_state

        new_updates, inner_state = jax.lax.cond(finite, run, skip)
        scale = state.loss_scale, state.good_steps, state.overflows_left
        if dynamic:
            scale = next_scale(state, finite)
        skipped = jnp.where(finite, state.skipped, optax.safe_increment(state.skipped))
        return new_updates, DynamicLossScalingState(*scale, skipped, finite, inner_state)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def scale_loss(loss: jax.Array, opt_state: Any) -> jax.Array:
    """Multiplies a loss by the scale in an optimizer's state, in float32.

    In float16 the product, and the scale as its gradient's cotangent, would be infinite from
    65,520 on.

    Args:
        loss: () of any floating dtype.
        opt_state: State of an optimizer with `dynamic_loss_scaling` at any depth; the scale is 1
            if there is none.

    Returns:
        The scaled loss, () float32.

    Raises:
        KeyError: The state holds several scales.

    Examples:
        >>> import jax.numpy as jnp, optax
        >>> from deepaudio import optim
        >>> optimizer = optim.dynamic_loss_scaling(optax.sgd(0.1), initial_scale=2.0**16)
        >>> state = optimizer.init({"w": jnp.zeros(2)})
        >>> print(optim.scale_loss(jnp.float16(2.0), state))
        131072.0
    """
    scale = optax.tree.get(opt_state, "loss_scale", 1.0)
    return jnp.asarray(loss).astype(jnp.float32) * scale


def _unscale(grads, scale, params):
    """Divides in float32 or wider, then casts to the parameters' dtypes, or to float32."""

    def unscale(grad, dtype):
        wide = grad.dtype if jnp.finfo(grad.dtype).bits >= 32 else jnp.float32
        return (grad.astype(wide) / scale.astype(wide)).astype(dtype)

    if params is None:
        return jax.tree.map(lambda grad: unscale(grad, jnp.float32), grads)
    return jax.tree.map(lambda grad, param: unscale(grad, param.dtype), grads, params)


def _all_finite(tree):
    finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]
    return jnp.all(jnp.stack(finite)) if finite else jnp.ones((), jnp.bool_)


def _check_floating(params):
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise ValueError(f"parameter {name!r} of dtype {dtype} must be of a floating dtype")


def _check(holds, message):
    # Under `optax.inject_hyperparams` the values are traced; they were checked before, in `init`.
    if not isinstance(holds, jax.core.Tracer) and not holds:
        raise ValueError(message)
