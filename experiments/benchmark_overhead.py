"""Measures what the optimizer chain costs: a training step with all of it, and with Adam alone.

    python -m experiments.benchmark_overhead

Times whole training steps of `experiments/configs/onsets_and_frames.py:small` on a random batch:

- clipping and Adam alone, the step that the others are compared with;
- the whole chain: dynamic loss scaling around clipping, Adam, dense-sparse-dense in its sparse
  phase, and gradual pruning, between two masks;
- the same, with a pruning mask at every step.

Masks are taken every `--frequency` steps only, so the chain's cost is that of the second with so
much of the difference to the third. The steps take turns, and each ratio is the median of the
ratios within a turn: what else the machine does meets all of them alike. Writes the record
`optimizer_overhead`.
"""

import dataclasses
import statistics
import time
from typing import Any

import jax
import numpy as np
import optax
from absl import app, flags
from rich.console import Console
from rich.progress import track

from deepaudio import optim, training
from experiments import _arguments, _transcription, records
from experiments.configs import onsets_and_frames

# What a step with the whole chain may take of one with clipping and Adam.
GOAL = 1.05
# Longer than any run, so that no phase ends while it is timed.
_FOREVER = 10**6
# Compiles, and dense-sparse-dense takes its mask.
_WARM_UP = 2


@dataclasses.dataclass(frozen=True)
class Overhead:
    """What `measure` found.

    Attributes:
        rows: A mapping for each chain: its name, `median_seconds` of a step, `ratio` to clipping
            and Adam, and `all_seconds`.
        ratio: Of the whole chain, with its share of the steps that take a mask.
    """

    rows: list[dict[str, Any]]
    ratio: float


def make_chains(frequency: int) -> dict[str, optax.GradientTransformation]:
    """The chains to compare, by name; the first is what the others are compared with."""
    clip_and_adam = {"learning_rate": 1e-4, "max_gradient_norm": 3.0}

    def whole(mask_every):
        return optim.make_optimizer(**clip_and_adam, sparsity=sparsity(mask_every), loss_scaling={})

    return {
        "clip, Adam": optim.make_optimizer(**clip_and_adam),
        "whole chain": whole(frequency),
        "whole chain, mask every step": whole(1),
    }


def sparsity(mask_every: int) -> tuple[optax.GradientTransformation, ...]:
    """Dense-sparse-dense in its sparse phase, and gradual pruning with a mask so often."""
    held = optim.dense_sparse_dense(dense_steps=0, sparse_steps=_FOREVER)
    times = {"start": 0, "ramp": _FOREVER // 2, "end": _FOREVER}
    return held, optim.gradual_pruning(**times, frequency=mask_every, q=0.1)


def measure(task: Any, batch: Any, *, repetitions: int, frequency: int) -> Overhead:
    """Times the steps.

    Args:
        task: What to train, as `training.make_train_step` takes it.
        batch: Numpy arrays, as the task's loss takes them.
        repetitions: Turns; in each, a step of every chain.
        frequency: Steps from one pruning mask to the next; more than are timed.

    Returns:
        Times and ratios.

    Raises:
        ValueError: `frequency` is so small that masks would be among the timed steps.
        RuntimeError: Loss scaling skipped a step, which is not what was to be timed.
    """
    if frequency <= repetitions + _WARM_UP:
        raise ValueError(f"{frequency=} must be above {repetitions + _WARM_UP}, the steps made")
    chains = make_chains(frequency)
    mesh = training.data_mesh()
    steps, states = {}, {}
    for name, chain in chains.items():
        steps[name] = training.make_train_step(task, chain, mesh, average_decay=0.999)
        states[name] = training.place_state(training.init_state(task, chain, seed=0), mesh)
    seconds = {name: [] for name in chains}
    turns = range(-_WARM_UP, repetitions)
    for turn in track(turns, "timing", console=Console(stderr=True)):
        # Forth and back, so that none always comes after the same other.
        for name in list(chains)[:: 1 if turn % 2 else -1]:
            begin = time.perf_counter()
            states[name], metrics = jax.block_until_ready(steps[name](states[name], batch))
            if turn >= 0:
                seconds[name].append(time.perf_counter() - begin)
            if not metrics.get("ran", 1):
                raise RuntimeError(f"{name}: a step was skipped")
    return _compare(seconds, frequency)


def _compare(seconds: dict[str, list[float]], frequency: int) -> Overhead:
    alone, between, masking = seconds
    rows = [
        {
            "chain": name,
            "median_seconds": statistics.median(times),
            "ratio": _median_ratio(times, seconds[alone]),
            "all_seconds": [round(value, 5) for value in times],
        }
        for name, times in seconds.items()
    ]
    of_masks = _median_ratio(seconds[masking], seconds[between]) - 1
    return Overhead(rows, rows[1]["ratio"] * (1 + of_masks / frequency))


def _median_ratio(times: list[float], others: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(times, others, strict=True))


def random_batch(config: Any) -> dict[str, np.ndarray]:
    """A batch of noise of the configured size, with random notes."""
    rng = np.random.default_rng(0)
    size, frames = config.batch_size, config.num_frames
    rolls = ("onsets", "frames", "offsets", "velocities", "frame_weights")
    batch = {name: rng.random((size, frames, 88), np.float32) for name in rolls}
    samples = frames * config.front_end.get("hop_length", 512)
    batch["samples"] = 0.1 * rng.standard_normal((size, samples), np.float32)
    batch["paddings"] = np.zeros((size, frames), np.float32)
    return batch


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_string("variant", "small", "Variant of the piano model.")
    flags.DEFINE_integer("batch_size", None, "Examples; None for the variant's.", lower_bound=1)
    flags.DEFINE_integer("repetitions", 31, "Timed steps of each chain.", lower_bound=1)
    flags.DEFINE_integer("frequency", 100, "Steps from mask to mask.", lower_bound=1)
    flags.DEFINE_string("record", "optimizer_overhead", "Name of the record.")


def main(argv: list[str]) -> None:
    """Measures and writes the record."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    given = flags.FLAGS
    config = onsets_and_frames.get_config(given.variant)
    config.batch_size = given.batch_size or config.batch_size
    found = measure(
        _transcription.make_task(config),
        random_batch(config),
        repetitions=given.repetitions,
        frequency=given.frequency,
    )
    for row in found.rows:
        print(f"{row['chain']}: {row['median_seconds']:.4f} s, ratio {row['ratio']:.4f}")
    print(f"with a mask every {given.frequency} steps: ratio {found.ratio:.4f}")
    path = records.write_record(
        given.record,
        None,
        found.rows,
        description="Seconds of a training step; ratios are medians over turns",
        variant=given.variant,
        batch_size=config.batch_size,
        frequency=given.frequency,
        ratio=found.ratio,
        goal=GOAL,
        reached=found.ratio <= GOAL,
    )
    print(f"wrote {path}")


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
