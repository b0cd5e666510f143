"""The training loop of every task."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import optax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from deepaudio.training._checkpoints import Checkpoints
from deepaudio.training._metrics import MetricWriter
from deepaudio.training._step import (
    Task,
    TrainState,
    data_mesh,
    init_state,
    make_train_step,
    warm_start,
)

# Given the averaged variables, yields (name, number or image).
Evaluator = Callable[[dict[str, Any]], Iterator[tuple[str, Any]]]


class NotFiniteError(ArithmeticError):
    """The loss became NaN or infinite."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The loop's own settings.

    Attributes:
        num_steps: Steps of the whole run.
        seed: Of everything random.
        log_every: Steps between rows of metrics, and between checks that the loss is finite.
        checkpoint_every: Steps between checkpoints.
        keep_every: Checkpoints at multiples of this are kept for good; None keeps the newest two.
        evaluate_every: Steps between calls of the evaluator; it also runs after the last step.
        average_decay: Of the moving average of the variables that evaluation uses.
    """

    num_steps: int
    seed: int = 0
    log_every: int = 20
    checkpoint_every: int = 500
    keep_every: int | None = None
    evaluate_every: int = 1000
    average_decay: float = 0.999


def train(
    task: Task,
    optimizer: optax.GradientTransformation,
    batches: Any,
    config: TrainConfig,
    workdir: str | Path,
    *,
    evaluator: Evaluator | None = None,
    variables: dict[str, Any] | None = None,
    show_progress: bool = True,
) -> TrainState:
    """Trains, or goes on training.

    Args:
        task: Gives variables and the loss.
        optimizer: From gradients to updates.
        batches: An iterator of numpy batches with `get_state` and `set_state` (grain's), that
            does not end.
        config: The loop's settings.
        workdir: Where `checkpoints/`, TensorBoard events and `metrics.csv` are.
        evaluator: Called with the averaged variables now and then.
        variables: To begin from, where names and shapes fit; None to draw all.
        show_progress: Whether a progress bar is drawn on stderr.

    Returns:
        The last state.

    Raises:
        NotFiniteError: The loss became NaN or infinite; the newest checkpoint is from before.
    """
    workdir = Path(workdir)
    step_function = make_train_step(
        task, optimizer, data_mesh(), average_decay=config.average_decay
    )
    with (
        Checkpoints(workdir / "checkpoints", keep_every=config.keep_every) as checkpoints,
        MetricWriter(workdir) as writer,
        _progress(show_progress) as progress,
    ):
        # Resume order: 1. a fresh state gives shapes and dtypes; 2. the newest checkpoint, if
        # any, replaces it; 3. the data iterator is put where that checkpoint left it; 4. every
        # step's key is folded from the state's key and step, so randomness goes on as it was.
        state = init_state(task, optimizer, config.seed)
        if variables is not None:
            state = warm_start(state, variables)
        if checkpoints.latest_step() is not None:
            state, data_state = checkpoints.restore(state)
            batches.set_state(data_state)
        start = int(state.step)
        bar = progress.add_task("training", total=config.num_steps, completed=start, loss="")
        window, logged = time.monotonic(), start
        for step in range(start + 1, config.num_steps + 1):
            state, metrics = step_function(state, next(batches))
            is_last = step == config.num_steps
            saves = step % config.checkpoint_every == 0 or is_last
            # Reading metrics waits for the device, so not every step; but nothing is saved
            # without having been looked at.
            if step % config.log_every == 0 or saves:
                numbers = {name: float(value) for name, value in metrics.items()}
                _check_finite(step, numbers)
                now = time.monotonic()
                numbers["steps_per_second"] = (step - logged) / (now - window)
                window, logged = now, step
                writer.write_scalars(step, numbers)
                writer.flush()
                progress.update(bar, loss=f"loss {numbers['loss/total']:.4f}")
            progress.update(bar, completed=step)
            # Saved first: whatever befalls the evaluator, the steps are not lost.
            if saves:
                checkpoints.save(step, state, batches.get_state())
            if evaluator and (step % config.evaluate_every == 0 or is_last):
                _evaluate(evaluator, state, step, writer)
    return state


def _check_finite(step: int, numbers: dict[str, float]) -> None:
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise NotFiniteError(
                f"{name} is {value} at step {step}: training stopped; the newest checkpoint is "
                "from before. Lower the learning rate or look at the data."
            )


def _evaluate(evaluator: Evaluator, state: TrainState, step: int, writer: MetricWriter) -> None:
    scalars, images = {}, {}
    for name, value in evaluator(jax.device_get(state.average)):
        (scalars if isinstance(value, float) else images)[name] = value
    writer.write_scalars(step, scalars)
    writer.write_images(step, images)
    writer.flush()


def _progress(show: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not show,
    )
