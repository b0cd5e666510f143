"""Deep Speech 2's parts on and off, pruning and dense-sparse-dense, and noise: a table of errors.

    python -m experiments.compare_speech --data_dir=CORPUS --workdir=RUNS
    python -m experiments.compare_speech --data_dir=CORPUS --workdir=RUNS --arms=base,no_batch_norm

Trains the arms below one after another, each for the same number of steps on the same data in the
same order, from the same seed, and scores the likeliest path on splits with speakers that no arm
has heard. Arms that are done are not trained again, a half-done one goes on. Writes the record
`speech_ablations` and a picture beside the runs.

With `--init_from=RUN` all begin from a trained model, as pruning and dense-sparse-dense do in their
papers; the first dense phase is then behind, and the last one, at a lower learning rate, is the
schedule's own fall:

    python -m experiments.compare_speech --data_dir=CORPUS --workdir=MORE --init_from=RUNS/base \
        --arms=base,pruned,dense_sparse_dense --record=speech_sparse

    base                  deep_speech_2.py:mini, three forward GRU layers with row convolution
    no_batch_norm         without sequence-wise batch norm
    no_sorta_grad         the first epoch in random order too
    rnn                   simple recurrent layers, of a width with as many weights
    conv_1d               convolutions over time alone
    bidirectional         both directions in place of the row convolution
    no_row_convolution    no lookahead at all
    no_noise              trained without added noise
    pruned                90 % of the matrices' weights pruned gradually
    dense_sparse_dense    30 % sparse in between
"""

import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import ml_collections
import numpy as np
from absl import app, flags
from rich.console import Console
from rich.table import Table

from experiments import _arguments, evaluate_speech, records, restore, train
from experiments.configs import deep_speech_2

# What the paper's tables say of each arm beside the base; WER falls with what is better.
_PAPERS_DIRECTION = {
    "no_batch_norm": "worse in deep networks (arXiv 1512.02595, section 3.2)",
    "no_sorta_grad": "worse (section 3.3)",
    "rnn": "worse (section 3.4)",
    "conv_1d": "worse, most of all in noise (section 3.5)",
    "bidirectional": "a little better, but cannot stream (section 3.7)",
    "no_row_convolution": "worse (section 3.7)",
    "no_noise": "worse in noise (arXiv 1412.5567)",
    "pruned": "near dense at 90 % (arXiv 1704.05119)",
    "dense_sparse_dense": "better (arXiv 1607.04381)",
}


def arms(workdir: Path, *, trained: bool = False) -> dict[str, dict[str, Any]]:
    """Settings of each arm that differ from the variant `mini`, by dotted name.

    Args:
        workdir: Where the runs are kept.
        trained: Whether all begin from a trained model.

    Returns:
        The settings by the arm's name.
    """
    dense_sparse_dense = {"optimizer.dense_sparse_dense.on": True}
    if trained:
        fall = deep_speech_2.get_config("mini").optimizer.schedule.decay_share
        times = {"dense": 0.0, "sparse": 1.0 - fall, "redense_scale": 1.0}
        dense_sparse_dense["optimizer.dense_sparse_dense"] = times
    return {
        "base": {},
        "no_batch_norm": {"model.batch_norm": False, "optimizer.schedule.peak": 5e-4},
        "no_sorta_grad": {"sorta_grad": False},
        # Three of 160 units have 0.63 million weights of recurrence, as three of 288 simple ones.
        "rnn": {"model.cell": "rnn", "model.units": 288, "optimizer.schedule.peak": 5e-4},
        "conv_1d": {"model.convolutions": ((160, 11, None, 3), (160, 5, None, 1))},
        "bidirectional": {"model.bidirectional": True, "model.lookahead": 0},
        "no_row_convolution": {"model.lookahead": 0},
        "no_noise": {"augment.ranges": {"noise_share": 0.0}},
        "pruned": {
            "optimizer.pruning.on": True,
            "optimizer.pruning.frequency": 20,
            "optimizer.pruning.dense_model": str(workdir / "base"),
        },
        "dense_sparse_dense": dense_sparse_dense,
    }


def configure(
    changes: dict[str, Any],
    data_dir: str,
    num_steps: int,
    init_from: str | None = None,
    variant: str = "mini",
) -> ml_collections.ConfigDict:
    """The configuration of an arm."""
    config = deep_speech_2.get_config(variant)
    for name, value in changes.items():
        group, _, last = name.rpartition(".")
        target = config
        for part in group.split(".") if group else ():
            target = target[part]
        if isinstance(value, dict):
            target[last].update(value)
        else:
            target[last] = value
    config.data_dir, config.num_steps = data_dir, num_steps
    config.init_from = init_from
    config.evaluate_every = num_steps
    return config


def measure(workdir: Path, data_dir: str, splits: list[str], limit: int | None) -> dict[str, Any]:
    """Error rates of a finished run, clean and at 5 dB, and how many weights are not zero."""
    task, variables = restore.restore(workdir)
    read = {name: evaluate_speech.read_split(data_dir, name)[:limit] for name in splits}
    rows = evaluate_speech.evaluate(task, variables, read, search=None, snrs=[None, 5.0])
    scores = {}
    for row in rows:
        noise = "clean" if row["snr_db"] == "none" else "5_db"
        for name in ("wer", "cer"):
            scores[f"{row['split']}_{noise}/{name}"] = row[name]
    return {**scores, **restore.count_weights(variables["params"])}


def compare(
    data_dir: str,
    workdir: Path,
    num_steps: int,
    *,
    names: list[str],
    splits: list[str],
    limit: int | None,
    init_from: str | None = None,
) -> list[dict[str, Any]]:
    """Trains and scores every arm; a row each."""
    rows = []
    known = arms(workdir, trained=init_from is not None)
    for name in names:
        if name not in known:
            raise ValueError(f"arm {name!r} must be one of {', '.join(known)}")
    for name in names:
        row = {"arm": name, "steps": num_steps, "paper": _PAPERS_DIRECTION.get(name, "")}
        try:
            train.train_whole(
                configure(known[name], data_dir, num_steps, init_from), workdir / name
            )
            row |= measure(workdir / name, data_dir, splits, limit)
        except ArithmeticError as error:
            # That a network does not learn without one of its parts is a result too.
            row["failed"] = str(error)
        rows.append(row)
    return rows


def _columns(rows):
    return [name for name in rows[0] if name.endswith("/cer")]


def picture(rows: list[dict[str, Any]], path: Path) -> None:
    """Draws the character error rates of every arm as bars."""
    columns = _columns(rows)
    height = 0.8 / len(columns)
    figure, axes = plt.subplots(figsize=(9, 1 + 0.5 * len(rows)), layout="constrained")
    for number, name in enumerate(columns):
        places = np.arange(len(rows)) + height * (number - (len(columns) - 1) / 2)
        values = [100 * row.get(name, 0.0) for row in rows]
        axes.barh(places, values, height=0.9 * height, label=name.removesuffix("/cer"))
    axes.set_yticks(range(len(rows)), [row["arm"].replace("_", " ") for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("character error rate, %")
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _print(rows):
    table = Table(title="parts of the recognizer, character error rate in percent")
    columns = _columns(rows)
    table.add_column("arm")
    table.add_column("non-zero weights", justify="right")
    for column in columns:
        table.add_column(column.removesuffix("/cer"), justify="right")
    for row in rows:
        scores = [f"{100 * row[name]:.2f}" if name in row else "failed" for name in columns]
        table.add_row(row["arm"], f"{row.get('nonzero_weights', 0):,}", *scores)
    Console().print(table)


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_string("data_dir", None, "The corpus's folder.", required=True)
    flags.DEFINE_string("workdir", None, "Where the runs are kept.", required=True)
    flags.DEFINE_list("arms", list(arms(Path())), "Which; the base comes first.")
    flags.DEFINE_list("splits", ["test_speakers", "test_engine"], "What to score on.")
    flags.DEFINE_integer("num_steps", 1500, "Steps of every arm.", lower_bound=10)
    flags.DEFINE_integer("limit", None, "Score only so many utterances a split.", lower_bound=1)
    flags.DEFINE_string(
        "init_from", None, "Weights that all arms begin from: a file or a run's folder."
    )
    flags.DEFINE_string("record", "speech_ablations", "Name of the record.")


def main(argv: list[str]) -> None:
    """Compares and writes the record."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    given = flags.FLAGS
    workdir = Path(given.workdir)
    try:
        rows = compare(
            given.data_dir,
            workdir,
            given.num_steps,
            names=given.arms,
            splits=given.splits,
            limit=given.limit,
            init_from=given.init_from,
        )
    except (ValueError, OSError) as error:
        sys.exit(f"compare_speech: {error}")
    _print(rows)
    picture(rows, workdir / "speech_ablations.png")
    path = records.write_record(
        given.record,
        records.running_command(),
        rows,
        description="Parts of the recognizer at equal steps: error rates of the likeliest path",
    )
    print(f"wrote {path}")


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
