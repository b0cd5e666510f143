r"""Trains a model, or goes on training it.

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

import jax
import ml_collections
from absl import app, flags
from ml_collections import config_flags

from deepaudio import optim, training
from deepaudio.models import load_weights
from experiments import _arguments, _distributed, _optimizer, _systems, restore

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
    system = _systems.of(config)
    _prepare(system, config, workdir)
    task = system.make_task(config)
    workdir.mkdir(parents=True, exist_ok=True)
    _keep_config(config, workdir)
    variables = _initial_variables(config.init_from)
    optimizer = _optimizer.make_optimizer(config, lambda: _thresholds(config, workdir))
    loop = training.TrainConfig(
        num_steps=config.num_steps,
        seed=config.seed,
        log_every=config.log_every,
        checkpoint_every=config.checkpoint_every,
        keep_every=config.keep_every,
        evaluate_every=config.evaluate_every,
        average_decay=config.average_decay,
        accumulate=config.accumulate,
    )
    return training.train(
        task,
        optimizer,
        system.make_batches(config),
        loop,
        workdir,
        evaluator=system.make_evaluator(config, task),
        variables=variables,
        mesh=training.data_mesh(config.model_devices),
    )


def train_whole(config: ml_collections.ConfigDict, workdir: str | Path) -> training.TrainState:
    """As `train`, for programs that go on with what was trained.

    Raises:
        InterruptedError: A signal ended the run before its last step.
    """
    state = train(config, workdir)
    if (step := int(state.step)) < config.num_steps:
        raise InterruptedError(f"{workdir}: stopped at step {step} of {config.num_steps}")
    return state


def _prepare(system: _systems.System, config: ml_collections.ConfigDict, workdir: Path) -> None:
    """Fills in what comes from the data; a run that goes on keeps what it began with."""
    path = workdir / "config.json"
    if config.task == "recognition" and path.exists():
        config.alphabet.update(json.loads(path.read_text()).get("alphabet", {}))
    system.prepare(config)


def _initial_variables(source: str | None) -> dict[str, Any] | None:
    if not source:
        return None
    if Path(source).is_dir():
        return restore.restore(source)[1]
    return load_weights(source)[0]


def _thresholds(config: ml_collections.ConfigDict, workdir: Path) -> dict[str, float]:
    """Where pruning thresholds end, from a dense model's weights, which a later call may lack."""
    path = workdir / "pruning_thresholds.json"
    if path.exists():
        return json.loads(path.read_text())
    pruning = config.optimizer.pruning
    dense = _initial_variables(pruning.dense_model or config.init_from)
    if dense is None:
        raise ValueError(
            "pruning by thresholds needs a trained dense model: give --config.init_from or "
            "--config.optimizer.pruning.dense_model, or --config.optimizer.pruning.schedule=cubic"
        )
    thresholds = optim.estimate_q(dense["params"], pruning.sparsity)
    path.write_text(json.dumps(thresholds))
    return thresholds


def _keep_config(config: ml_collections.ConfigDict, workdir: Path) -> None:
    """Writes the configuration beside the run; a run cannot go on as something else."""
    path = workdir / "config.json"
    text = config.to_json_best_effort(indent=2, sort_keys=True)
    if path.exists():
        old, new = json.loads(path.read_text()), json.loads(text)
        changed = sorted(name for name in old | new if old.get(name) != new.get(name))
        settings = config.optimizer
        # The times of both are shares of the steps.
        sparse = settings.pruning.on or settings.dense_sparse_dense.on
        if set(changed) - (_MAY_CHANGE - {"num_steps"} if sparse else _MAY_CHANGE):
            raise ValueError(f"{workdir}: was begun with other settings of {', '.join(changed)}")
    if jax.process_index() == 0:
        path.write_text(text)


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    config_flags.DEFINE_config_file("config", None, "What to train: FILE:VARIANT.")
    flags.DEFINE_string("workdir", None, "Where checkpoints and metrics are kept.")
    flags.mark_flags_as_required(["config", "workdir"])
    _distributed.define_flags()


def main(argv: list[str]) -> None:
    """Reads the flags and trains."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    try:
        _distributed.initialize()
        train(flags.FLAGS.config, flags.FLAGS.workdir)
    except (ValueError, OSError, ArithmeticError) as error:
        sys.exit(f"train: {error}")


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
