"""The training loop of every task."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import optax
from jax.experimental import multihost_utils
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from deepaudio.training._checkpoints import Checkpoints
from deepaudio.training._mesh import data_mesh, place_state
from deepaudio.training._metrics import MetricWriter
from deepaudio.training._signals import StopRequest
from deepaudio.training._step import Task, TrainState, init_state, make_train_step, warm_start
from deepaudio.training._watch import LOSS, Watch

# Given the averaged variables, yields (name, number or image).
Evaluator = Callable[[dict[str, Any]], Iterator[tuple[str, Any]]]


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The loop's own settings.

    Attributes:
        num_steps: Steps of the whole run.
        seed: Of everything random.
        log_every: Steps between rows of metrics, and between looks at the metrics of every step
            since the last one.
        checkpoint_every: Steps between checkpoints.
        keep_every: Checkpoints at multiples of this are kept for good; None keeps the newest two.
        evaluate_every: Steps between calls of the evaluator; it also runs after the last step.
        average_decay: Of the moving average of the variables that evaluation uses.
        accumulate: Parts that a batch is gone through in, one after another.
        divergence_factor: The loss has diverged when ten steps running are this many times the
            running median above it; None never finds that.
        max_skipped: Steps in a row that loss scaling may skip before that is an error.
    """

    num_steps: int
    seed: int = 0
    log_every: int = 20
    checkpoint_every: int = 500
    keep_every: int | None = None
    evaluate_every: int = 1000
    average_decay: float = 0.999
    accumulate: int = 1
    divergence_factor: float | None = 20.0
    max_skipped: int = 50

    def __post_init__(self):
        """Refuses what could not run.

        Raises:
            ValueError: A count is not positive, or `divergence_factor` is at most 1.
        """
        for name in ("num_steps", "log_every", "checkpoint_every", "evaluate_every", "max_skipped"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.divergence_factor is not None and not self.divergence_factor > 1:
            raise ValueError(f"divergence_factor={self.divergence_factor} must be above 1")


def train(
    task: Task,
    optimizer: optax.GradientTransformation,
    batches: Any,
    config: TrainConfig,
    workdir: str | Path,
    *,
    mesh: jax.sharding.Mesh | None = None,
    evaluator: Evaluator | None = None,
    variables: dict[str, Any] | None = None,
    show_progress: bool = True,
) -> TrainState:
    """Trains, or goes on training.

    SIGTERM or SIGINT ends the run after the step it is in, or with several processes after the
    next look at the metrics: a checkpoint is written, a line on stderr says so, and the state is
    returned. After that, as after a kill at any moment, the same call goes on bit for bit from
    the newest checkpoint.

    Args:
        task: Gives variables and the loss.
        optimizer: From gradients to updates.
        batches: An iterator of dicts of numpy arrays with `get_state` and `set_state` (grain's),
            that does not end. The entry `ids`, (batch,) integers or names, if there is one,
            says which examples these are; it is for messages and does not reach the task.
        config: The loop's settings.
        workdir: Where `checkpoints/`, TensorBoard events and `metrics.csv` are.
        mesh: The devices to train on; None for `data_mesh()`.
        evaluator: Called with the averaged variables now and then.
        variables: To begin from, where names and shapes fit; None to draw all.
        show_progress: Whether a progress bar is drawn on stderr.

    Returns:
        The last state; its `step` is below `num_steps` if a signal ended the run.

    Raises:
        NotFiniteError: A metric became NaN or infinite, or loss scaling skips every step. Names
            the first such step, its batch's ids and the newest checkpoint, which is from before.
        DivergedError: The loss rose far above what it had been; names the same.
        CheckpointError: A checkpoint could not be written, or none is intact.
        BlockingIOError: Another run is using the workdir.
    """
    workdir = Path(workdir)
    mesh = data_mesh() if mesh is None else mesh
    step_function = make_train_step(
        task, optimizer, mesh, average_decay=config.average_decay, accumulate=config.accumulate
    )
    with (
        Checkpoints(workdir / "checkpoints", keep_every=config.keep_every) as checkpoints,
        _writer(workdir) as writer,
        StopRequest() as stop,
        _progress(show_progress) as progress,
    ):
        state = place_state(init_state(task, optimizer, config.seed), mesh)
        state = _resume(state, checkpoints, batches, variables, mesh)
        start = int(state.step)
        bar = progress.add_task("training", total=config.num_steps, completed=start, loss="")
        watch = Watch(divergence_factor=config.divergence_factor, max_skipped=config.max_skipped)
        since, logged = time.monotonic(), start
        for step in range(start + 1, config.num_steps + 1):
            batch = dict(next(batches))
            ids = batch.pop("ids", None)
            state, metrics = step_function(state, batch)
            watch.add(step, metrics, ids)
            is_last = step == config.num_steps
            saves = step % config.checkpoint_every == 0 or is_last
            # Reading metrics waits for the device, so not every step; but nothing is saved
            # without having been looked at.
            looks = step % config.log_every == 0 or saves
            stopped_by = None if is_last else stop.agreed(looks)
            if looks or stopped_by:
                numbers = _look(watch, checkpoints)
                now = time.monotonic()
                numbers["steps_per_second"] = (step - logged) / (now - since)
                since, logged = now, step
                _write(writer, step, numbers)
                progress.update(bar, loss=f"loss {numbers[LOSS]:.4f}")
            progress.update(bar, completed=step)
            # Saved first: whatever befalls the evaluator, the steps are not lost.
            if saves or stopped_by:
                checkpoints.save(step, state, batches.get_state())
            if stopped_by:
                checkpoints.wait()
                _say_stopped(progress, stopped_by, step)
                break
            if evaluator and (step % config.evaluate_every == 0 or is_last):
                _evaluate(evaluator, state, step, writer)
    return state


def _resume(state, checkpoints, batches, variables, mesh):
    """Where the run stands.

    Resume order: 1. a fresh state gives shapes, dtypes and places; 2. the newest intact
    checkpoint, if there is any, replaces it; 3. the data iterator is put where that checkpoint
    left it; 4. every step's key is folded from the state's key and step, so randomness goes on as
    it was. Other variables are begun from only where there is no checkpoint.
    """
    if checkpoints.latest_step() is not None:
        state, position = checkpoints.restore(state)
        batches.set_state(position)
    elif variables is not None:
        state = place_state(warm_start(state, variables), mesh)
    return state


def _look(watch: Watch, checkpoints: Checkpoints) -> dict[str, float]:
    """Reads the metrics; an error also names the newest checkpoint."""
    checkpoints.check()
    try:
        return watch.read()
    except ArithmeticError as error:
        checkpoints.wait()
        newest = checkpoints.latest_step()
        kept = "there is no checkpoint yet" if newest is None else f"last good checkpoint: {newest}"
        raise type(error)(
            f"{error}: training stopped; {kept}. Lower the learning rate or look at these data."
        ) from None


def _say_stopped(progress: Progress, signal: str, step: int) -> None:
    if jax.process_index() == 0:
        line = f"stopped by {signal} at step {step}; run the same command to go on"
        progress.console.print(line, soft_wrap=True, highlight=False)


def _evaluate(evaluator: Evaluator, state: TrainState, step: int, writer: MetricWriter | None):
    if jax.process_count() > 1:
        average = multihost_utils.process_allgather(state.average, tiled=True)
    else:
        average = jax.device_get(state.average)
    scalars, images = {}, {}
    for name, value in evaluator(average):
        (scalars if isinstance(value, float) else images)[name] = value
    _write(writer, step, scalars, images)


def _writer(workdir: Path) -> contextlib.AbstractContextManager[MetricWriter | None]:
    """The first process writes for all."""
    return MetricWriter(workdir) if jax.process_index() == 0 else contextlib.nullcontext()


def _write(writer: MetricWriter | None, step: int, scalars, images=None) -> None:
    if writer is not None:
        writer.write_scalars(step, scalars)
        writer.write_images(step, images or {})
        writer.flush()


def _progress(show: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not show or jax.process_index() != 0,
    )
