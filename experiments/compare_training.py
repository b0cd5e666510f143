"""Mixed precision, pruning and dense-sparse-dense training beside plain training, on piano.

    python -m experiments.compare_training --data_dir=CORPUS --workdir=RUNS

Trains the arms below one after another, each for the same number of steps on the same data in the
same order, from the same seed, and scores each on the test split, with the decoding that serves it
best on the validation split. Arms that are done are not trained again, a half-done one goes on.
Writes the record `training_techniques` and a picture beside the runs.

`--arms` chooses among them, and with `--init_from=RUN` all begin from a trained model, as pruning
and dense-sparse-dense do in their papers. The first dense phase is then behind, and the last one,
at a lower learning rate, is the schedule's own fall.

    float32, bfloat16, float16          `mini` in these precisions; float16 with loss scaling
    float16 unscaled                    the same without: small gradients are lost
    sparse 90 %                         `mini`, pruned gradually by the threshold rule; its
                                        thresholds come from the float32 arm
    sparse 90 % by rank                 the same, each layer by rank with the cubic schedule that
                                        others use; the threshold rule comes to a little more
    wide sparse 80 %                    wider layers, pruned by rank to as many non-zero weights as
                                        `mini` has in all
    dense-sparse-dense                  `mini`, 30 % sparse in between
"""

import functools
import sys
from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt
import ml_collections
import numpy as np
from absl import app, flags
from rich.console import Console
from rich.table import Table

from deepaudio import data, evaluation, optim
from deepaudio.tasks.transcriber import make_transcriber
from experiments import _arguments, _transcription, records, restore, train
from experiments.configs import onsets_and_frames
from experiments.evaluate import score_recordings

# Sizes of the wide arm: `mini` has 0.81 million weights in matrices, this 4.04 million.
_WIDE = {"dense_units": 320, "lstm_units": 160, "channels": (8, 16, 32), "key_lstm_units": 8}
_SCORES = ("note/f1", "note_with_offset/f1", "frame/f1")


def arms(workdir: Path, *, trained: bool = False) -> dict[str, dict[str, Any]]:
    """Settings of each arm that differ from the variant `mini`, by dotted name.

    Args:
        workdir: Where the runs are kept.
        trained: Whether all begin from a trained model.

    Returns:
        The settings by the arm's name.
    """
    dense = str(workdir / "float32")
    pruned = {"optimizer.pruning.on": True, "optimizer.pruning.frequency": 20}
    dense_sparse_dense = {"optimizer.dense_sparse_dense.on": True}
    if trained:
        fall = onsets_and_frames.get_config("mini").optimizer.schedule.decay_share
        times = {"dense": 0.0, "sparse": 1.0 - fall, "redense_scale": 1.0}
        dense_sparse_dense |= {
            f"optimizer.dense_sparse_dense.{name}": value for name, value in times.items()
        }
    by_rank = {**pruned, "optimizer.pruning.schedule": "cubic"}
    wide = {f"model.{name}": value for name, value in _WIDE.items()}
    return {
        "float32": {},
        "bfloat16": {"precision": "bfloat16"},
        "float16": {"precision": "float16"},
        "float16 unscaled": {"precision": "float16", "optimizer.loss_scaling.on": False},
        "sparse 90 %": {**pruned, "optimizer.pruning.dense_model": dense},
        "sparse 90 % by rank": by_rank,
        "wide sparse 80 %": {**wide, **by_rank, "optimizer.pruning.sparsity": 0.8},
        "dense-sparse-dense": dense_sparse_dense,
    }


def configure(
    changes: dict[str, Any],
    data_dir: str,
    num_steps: int,
    init_from: str | None = None,
    variant: str = "mini",
) -> ml_collections.ConfigDict:
    """The configuration of an arm."""
    config = onsets_and_frames.get_config(variant)
    config.update_from_flattened_dict(changes)
    config.data_dir, config.num_steps = data_dir, num_steps
    config.init_from = init_from
    config.evaluate_every = num_steps
    return config


def measure(workdir: Path, data_dir: str, limit: int | None) -> dict[str, Any]:
    """Mean test scores of a finished run, and how many of its weights are zero."""
    task, variables = restore.restore(workdir)
    predict = functools.partial(jax.jit(task.predict), variables)
    decoding = _transcription.best_decoding(
        make_transcriber(task.config, predict),
        data.read_maestro(data_dir, "validation")[:limit],
        ["metric/note/f1", "metric/note_with_offset/f1"],
    )
    recordings = data.read_maestro(data_dir, "test")[:limit]
    transcriber = make_transcriber(task.config, predict, **decoding)
    scores = evaluation.average_scores(score_recordings(transcriber, recordings))
    params = variables["params"]
    return {
        **{name.removeprefix("metric/"): value for name, value in scores.items()},
        **decoding,
        "sparsity": optim.sparsity_report(params)["total"],
        **restore.count_weights(params),
    }


def compare(
    data_dir: str,
    workdir: Path,
    num_steps: int,
    *,
    names: list[str] | None = None,
    init_from: str | None = None,
    limit: int | None = None,
) -> list[dict]:
    """Trains and scores arms; a row each, with differences from the first in points of F1.

    Args:
        data_dir: The corpus's folder.
        workdir: Where the runs are kept.
        num_steps: Steps of every arm.
        names: Which arms, the one to compare with first; None for all.
        init_from: Weights that all begin from, as `train` takes them; None to draw them.
        limit: The most recordings to score on.

    Returns:
        The rows.

    Raises:
        ValueError: There is no such arm, or the data cannot be read.
    """
    rows, known = [], arms(workdir, trained=init_from is not None)
    for name in names or known:
        if name not in known:
            raise ValueError(f"arm {name!r} must be one of {', '.join(known)}")
        changes = known[name]
        folder = workdir / name.replace(" ", "_").replace("%", "percent")
        row = {"arm": name, "steps": num_steps}
        try:
            train.train_whole(configure(changes, data_dir, num_steps, init_from), folder)
            row |= measure(folder, data_dir, limit)
        except ArithmeticError as error:
            # What float16 without scaling may come to is a result too.
            row["failed"] = str(error)
        rows.append(row)
        for score in _SCORES:
            if score in row and score in rows[0]:
                row[f"{score} minus {rows[0]['arm']}, points"] = 100 * (row[score] - rows[0][score])
    return rows


def picture(rows: list[dict], path: Path) -> None:
    """Draws the scores of every arm as bars."""
    figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    names = [row["arm"] for row in rows]
    for number, score in enumerate(_SCORES):
        places = np.arange(len(rows)) + 0.27 * (number - 1)
        axes.barh(places, [row.get(score, 0.0) for row in rows], height=0.25, label=score)
    axes.set_yticks(range(len(rows)), names)
    axes.invert_yaxis()
    axes.set_xlabel("F1 on unseen pieces and instruments")
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _print(rows):
    table = Table(title="training techniques, test split")
    for column in ("arm", "non-zero weights", *_SCORES):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for row in rows:
        scores = [f"{100 * row[score]:.2f}" if score in row else "failed" for score in _SCORES]
        table.add_row(row["arm"], f"{row.get('nonzero_weights', 0):,}", *scores)
    Console().print(table)


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_string("data_dir", None, "The corpus's folder.", required=True)
    flags.DEFINE_string("workdir", None, "Where the runs are kept.", required=True)
    flags.DEFINE_integer("num_steps", 1000, "Steps of every arm.", lower_bound=10)
    flags.DEFINE_list("arms", None, "Which, with commas, the one to compare with first; else all.")
    flags.DEFINE_string(
        "init_from", None, "Weights that all arms begin from: a file or a run's folder."
    )
    flags.DEFINE_integer("limit", None, "Score only this many recordings.", lower_bound=1)
    flags.DEFINE_string("record", "training_techniques", "Name of the record.")


def main(argv: list[str]) -> None:
    """Compares and writes the record."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    values = flags.FLAGS
    workdir = Path(values.workdir)
    try:
        rows = compare(
            values.data_dir,
            workdir,
            values.num_steps,
            names=values.arms,
            init_from=values.init_from,
            limit=values.limit,
        )
    except (ValueError, OSError) as error:
        sys.exit(f"compare_training: {error}")
    _print(rows)
    picture(rows, workdir / "training_techniques.png")
    path = records.write_record(
        values.record,
        records.running_command(),
        rows,
        description="Training techniques at equal steps: test scores, means over pieces",
    )
    print(f"wrote {path}")


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
