"""Learning rates."""

import dataclasses

import optax


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate moves.

    Attributes:
        kind: `staircase` multiplies by `decay_rate` every `decay_every` steps (the paper:
            6e-4, 0.98, 10,000). `stable` keeps the peak, then falls linearly to zero over the
            last `decay_share` of the steps; a checkpoint before the fall is one that a shorter
            run would have passed too.
        peak: The largest learning rate.
        warmup_steps: Steps of linear warm-up from zero.
        decay_rate: Of `staircase`.
        decay_every: Of `staircase`, in steps.
        decay_share: Of `stable`, in [0, 1].
    """

    kind: str = "staircase"
    peak: float = 6e-4
    warmup_steps: int = 0
    decay_rate: float = 0.98
    decay_every: int = 10_000
    decay_share: float = 0.3


def make_schedule(config: ScheduleConfig, num_steps: int) -> optax.Schedule:
    """The learning rate as a function of the step.

    Args:
        config: How it moves.
        num_steps: Steps of the whole run.

    Returns:
        A function from the step's number to the learning rate.

    Raises:
        ValueError: The kind is unknown.
    """
    if config.kind == "staircase":
        main = optax.exponential_decay(
            config.peak, config.decay_every, config.decay_rate, staircase=True
        )
    elif config.kind == "stable":
        fall = max(int(config.decay_share * num_steps), 1)
        main = optax.join_schedules(
            [optax.constant_schedule(config.peak), optax.linear_schedule(config.peak, 0.0, fall)],
            [num_steps - fall - config.warmup_steps],
        )
    else:
        raise ValueError(f"{config.kind=} must be 'staircase' or 'stable'")
    if not config.warmup_steps:
        return main
    warmup = optax.linear_schedule(0.0, config.peak, config.warmup_steps)
    return optax.join_schedules([warmup, main], [config.warmup_steps])
