"""Trains a model, or goes on training it.

    python -m experiments.train --config=experiments/configs/onsets_and_frames.py:small \
        --config.data_dir=CORPUS --workdir=RUN

Every value of the configuration can be given on the command line, as `--config.data_dir` is here.
A second call with the same workdir goes on where the first one stopped. To watch:
`tensorboard --logdir RUN`.
"""

import json
import sys
from pathlib import Path
from typing import Any

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from deepaudio import training
from deepaudio.models import load_weights
from experiments import _transcription, restore

# What may differ when a run goes on; the schedules are made so that `num_steps` may too.
_MAY_CHANGE = {"data_dir", "num_threads", "num_steps", "log_every", "evaluate_every"}


def train(config: ml_collections.ConfigDict, workdir: str | Path) -> training.TrainState:
    """Trains one configuration.

    Args:
        config: From `experiments/configs`.
        workdir: Where checkpoints and metrics are kept; made if need be.

    Returns:
        The last state.

    Raises:
        ValueError: The configuration, its data, or the workdir's contents do not fit.
        NotFiniteError: The loss became NaN or infinite.
    """
    workdir = Path(workdir)
    task = _transcription.make_task(config)
    workdir.mkdir(parents=True, exist_ok=True)
    _keep_config(config, workdir)
    schedule = training.make_schedule(training.ScheduleConfig(**config.schedule), config.num_steps)
    optimizer = training.make_optimizer(
        schedule, max_gradient_norm=config.max_gradient_norm, weight_decay=config.weight_decay
    )
    loop = training.TrainConfig(
        num_steps=config.num_steps,
        seed=config.seed,
        log_every=config.log_every,
        checkpoint_every=config.checkpoint_every,
        keep_every=config.keep_every,
        evaluate_every=config.evaluate_every,
        average_decay=config.average_decay,
    )
    return training.train(
        task,
        optimizer,
        _transcription.make_batches(config),
        loop,
        workdir,
        evaluator=_transcription.make_evaluator(config, task),
        variables=_initial_variables(config.init_from),
    )


def _initial_variables(source: str | None) -> dict[str, Any] | None:
    if not source:
        return None
    if Path(source).is_dir():
        return restore.restore(source)[1]
    return load_weights(source)[0]


def _keep_config(config: ml_collections.ConfigDict, workdir: Path) -> None:
    """Writes the configuration beside the run; a run cannot go on as something else."""
    path = workdir / "config.json"
    text = config.to_json_best_effort(indent=2, sort_keys=True)
    if path.exists():
        old, new = json.loads(path.read_text()), json.loads(text)
        changed = sorted(name for name in old | new if old.get(name) != new.get(name))
        if set(changed) - _MAY_CHANGE:
            raise ValueError(f"{workdir}: was begun with other settings of {', '.join(changed)}")
    path.write_text(text)


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    config_flags.DEFINE_config_file("config", None, "What to train: FILE:VARIANT.")
    flags.DEFINE_string("workdir", None, "Where checkpoints and metrics are kept.")
    flags.mark_flags_as_required(["config", "workdir"])


def main(argv: list[str]) -> None:
    """Reads the flags and trains."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    # Orbax tells of every file it writes; that would tear the progress bar.
    logging.set_verbosity(logging.WARNING)
    try:
        train(flags.FLAGS.config, flags.FLAGS.workdir)
    except (ValueError, OSError, ArithmeticError) as error:
        sys.exit(f"train: {error}")


if __name__ == "__main__":
    _define_flags()
    app.run(main)
