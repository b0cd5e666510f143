"""From a configuration to learning rates and the optimizer chain."""

from collections.abc import Callable
from typing import Any

import ml_collections
import optax

from deepaudio import optim, training


def make_optimizer(
    config: ml_collections.ConfigDict, thresholds: Callable[[], Any]
) -> optax.GradientTransformationExtraArgs:
    """The optimizer of a configuration.

    Args:
        config: Of the run; `optimizer`, `num_steps` and `precision` are read.
        thresholds: Gives `q` of `optim.gradual_pruning`, what the threshold of each layer type
            ends at; called only if pruning by that rule is on.

    Returns:
        The chain.

    Raises:
        ValueError: A setting is out of range.
    """
    settings = config.optimizer
    schedule = training.make_schedule(
        training.ScheduleConfig(**settings.schedule), config.num_steps
    )
    sparsity = []
    if settings.dense_sparse_dense.on:
        sparsity.append(_dense_sparse_dense(settings.dense_sparse_dense, config.num_steps))
    if settings.pruning.on:
        sparsity.append(_pruning(settings.pruning, config.num_steps, thresholds))
    scaled = settings.loss_scaling.on and optim.Policy.parse(config.precision).needs_loss_scaling
    loss_scaling = {k: v for k, v in settings.loss_scaling.items() if k != "on"}
    return optim.make_optimizer(
        schedule,
        max_gradient_norm=settings.max_gradient_norm,
        momentum=settings.get("momentum"),
        weight_decay=settings.weight_decay,
        sparsity=sparsity,
        loss_scaling=loss_scaling if scaled else None,
    )


def _pruning(settings, num_steps, thresholds):
    times = {name: round(settings[name] * num_steps) for name in ("start", "ramp", "end")}
    common = {**times, "frequency": settings.frequency, "regrow": settings.regrow}
    if settings.schedule == "cubic":
        return optim.gradual_pruning(schedule="cubic", sparsity=settings.sparsity, **common)
    return optim.gradual_pruning(schedule=settings.schedule, q=thresholds(), **common)


def _dense_sparse_dense(settings, num_steps):
    return optim.dense_sparse_dense(
        dense_steps=round(settings.dense * num_steps),
        sparse_steps=round(settings.sparse * num_steps),
        sparsity=settings.sparsity,
        redense_scale=settings.redense_scale,
    )
