"""A finished or running training run's model, for evaluation and export."""

import json
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from deepaudio import optim, training
from experiments import _optimizer, _systems


def restore(workdir: str | Path, step: int | None = None) -> tuple[Any, dict[str, Any]]:
    """Reads the averaged variables of a run.

    Args:
        workdir: The run's folder.
        step: Which checkpoint; None for the newest.

    Returns:
        The task of the run's system, and its variables.

    Raises:
        FileNotFoundError: There is no such run or checkpoint.
    """
    config = read_config(workdir)
    task = _systems.of(config).make_task(config)
    # For its state's shapes; of the thresholds, which are not state, none has to be right.
    optimizer = _optimizer.make_optimizer(config, lambda: 1.0)
    template = jax.jit(lambda: training.init_state(task, optimizer, config.seed))()
    checkpoints = training.Checkpoints(Path(workdir) / "checkpoints", read_only=True)
    state, _ = checkpoints.restore(template, step)
    checkpoints.close()
    return task, jax.device_get(state.average)


def read_config(workdir: str | Path) -> ml_collections.ConfigDict:
    """The configuration of a run; its tuples come back as lists.

    Raises:
        FileNotFoundError: There is no such run.
    """
    path = Path(workdir) / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"{workdir}: no training run (config.json is missing)")
    return ml_collections.ConfigDict(json.loads(path.read_text()))


def count_weights(params: Any) -> dict[str, int]:
    """`weights` in a model's matrices, as `optim.matrices` selects them, and `nonzero_weights`."""
    paths = jax.tree.leaves(optim.path_names(params))
    leaves = zip(paths, jax.tree.leaves(params), strict=True)
    matrices = [leaf for path, leaf in leaves if optim.matrices(path, leaf)]
    return {
        "weights": sum(leaf.size for leaf in matrices),
        "nonzero_weights": sum(int(np.count_nonzero(leaf)) for leaf in matrices),
    }
