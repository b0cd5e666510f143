"""Measures what packing does to a pruned recognizer: its size, its errors, and its speed.

    python -m experiments.sparse.recognition --weights=pruned.safetensors --data_dir=CORPUS
    python -m experiments.sparse.recognition --workdir=RUN --data_dir=CORPUS
    python -m experiments.sparse.recognition --prune=0.9 --data_dir=CORPUS

Takes pruned weights, a training run with pruning, or, with `--prune`, prunes the shipped model's
matrices by magnitude on the spot. That last model is good for comparing its forms and for nothing
else: without training under the mask it hears little. Each form (float32, bfloat16, packed) is
written to a file; the networks of the first and the last are scored on the same utterances, by the
likeliest path, and timed on the same sound. Writes the record `sparse_size`. Beside the model stand
the sizes of the networks of arXiv 1704.05119, of random weights: 1760 simple recurrent units and
2560 GRU units, each with nine tenths of its matrices pruned.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from rich.console import Console
from rich.table import Table

from deepaudio import optim
from deepaudio.kernels import sparse
from deepaudio.models import (
    DeepSpeech2Config,
    load_weights,
    pack_weights,
    runnable_weights,
    save_weights,
    unpack_weights,
)
from deepaudio.tasks.recognition import RecognitionConfig, RecognitionTask
from deepaudio.tasks.recognizer import DEFAULT_WEIGHTS, load_model
from experiments import _arguments, _speech_scores, evaluate_speech, records, restore

_PAPERS_NETWORKS = {
    "paper, 1760 simple units": DeepSpeech2Config(cell="rnn", units=1760),
    "paper, 2560 GRU units": DeepSpeech2Config(
        cell="gru", layers=3, units=2560, bidirectional=False, lookahead=80, dense_units=2560
    ),
}
_SECONDS_OF_SOUND, _TURNS = 30, 5


def prune(variables: dict[str, Any], share: float) -> dict[str, Any]:
    """Sets the smallest weights of every matrix to zero, and rounds all to float16.

    Args:
        variables: Of a model.
        share: Of every matrix that `optim.matrices` selects, but the logits.

    Returns:
        The variables, float32.
    """

    def pruned(path, leaf):
        leaf = np.asarray(leaf, np.float16).astype(np.float32)
        if not optim.matrices(path, leaf) or "logits" in path:
            return leaf
        rank = np.partition(np.abs(leaf), int(share * leaf.size), axis=None)
        return np.where(np.abs(leaf) >= rank[int(share * leaf.size)], leaf, 0.0)

    params = variables["params"]
    return {**variables, "params": jax.tree.map(pruned, optim.path_names(params), params)}


def forms(variables: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A pruned model as float32, as bfloat16, and packed with the rest as float16, by name."""

    def rounded(dtype):
        return jax.tree.map(lambda leaf: np.asarray(leaf).astype(dtype), variables)

    return {
        "float32": variables,
        "bfloat16": rounded(jnp.bfloat16),
        "packed": pack_weights(rounded(np.float16)),
    }


def sizes(model: str, variables: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Writes each form to a file; a row each."""
    params = jax.tree.leaves(variables["params"])
    common = {
        "model": model,
        "weights": sum(leaf.size for leaf in params),
        "nonzero_weights": sum(int(np.count_nonzero(leaf)) for leaf in params),
    }
    rows = []
    for form, values in forms(variables).items():
        path = folder / f"{form}.safetensors"
        save_weights(path, values, {})
        rows.append({**common, "form": form, "bytes": path.stat().st_size})
    for row in rows:
        row["float32_is_larger_times"] = rows[0]["bytes"] / row["bytes"]
    return rows


def score(
    task: RecognitionTask, variables: dict[str, Any], data_dir: str, splits: list[str], limit: int
) -> dict[str, float]:
    """Error rates of the likeliest path, by split."""
    read = {name: evaluate_speech.read_split(data_dir, name)[:limit] for name in splits}
    rows = evaluate_speech.evaluate(task, variables, read, search=None, snrs=[None])
    return {f"{row['split']}/{name}": row[name] for row in rows for name in ("wer", "cer")}


def speeds(task: RecognitionTask, networks: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Seconds of sound a second of each network, one sound at a time; medians over turns."""
    rate = task.config.front_end.sample_rate
    samples = np.random.default_rng(0).normal(0, 0.1, (1, _SECONDS_OF_SOUND * rate))
    arguments = samples.astype(np.float32), np.array([samples.shape[1]], np.int32)
    function = jax.jit(task.log_probs)
    placed = {name: jax.device_put(variables) for name, variables in networks.items()}
    seconds = {name: [] for name in networks}
    for turn in range(-1, _TURNS):
        for name, variables in placed.items():
            begin = time.perf_counter()
            jax.block_until_ready(function(variables, *arguments))
            if turn >= 0:
                seconds[name].append(time.perf_counter() - begin)
    return {name: _SECONDS_OF_SOUND / statistics.median(times) for name, times in seconds.items()}


def difference(task: RecognitionTask, networks: dict[str, Any], data_dir: str, split: str) -> float:
    """The largest difference of two networks' log probabilities, over a batch of utterances."""
    utterances = evaluate_speech.read_split(data_dir, split)[:8]
    heard = [_speech_scores.log_probs_of(task, v, utterances) for v in networks.values()]
    return max(
        float(np.abs(one - other).max()) for (one, _), (other, _) in zip(*heard, strict=True)
    )


def measure(
    model: str,
    task: RecognitionTask,
    variables: dict[str, Any],
    data_dir: str | None,
    splits: list[str],
    limit: int,
) -> list[dict[str, Any]]:
    """Sizes, error rates and speeds of a model's forms.

    Args:
        model: What to call it.
        task: The model's.
        variables: Pruned, dense.
        data_dir: The corpus to score on; None for none.
        splits: Of the corpus.
        limit: Utterances of a split.

    Returns:
        A row for each form.
    """
    with tempfile.TemporaryDirectory() as folder:
        rows = sizes(model, variables, Path(folder))
        packed, _ = load_weights(Path(folder) / "packed.safetensors")
    networks = {"float32": variables, "packed": runnable_weights(packed)}
    for name, speed in speeds(task, networks).items():
        row = next(row for row in rows if row["form"] == name)
        row["seconds_of_sound_a_second"] = speed
        if data_dir:
            row |= score(task, networks[name], data_dir, splits, limit)
    if data_dir:
        rows[-1]["largest_difference"] = difference(task, networks, data_dir, splits[0])
    return rows


def papers_sizes(share: float = 0.9) -> list[dict[str, Any]]:
    """Sizes of the paper's networks, of random weights."""
    rows, key = [], jax.random.key(0)
    rng = np.random.default_rng(0)
    for model, config in _PAPERS_NETWORKS.items():
        shapes = jax.eval_shape(RecognitionTask(RecognitionConfig(model=config)).init, key)
        drawn = jax.tree.map(lambda s: 0.1 * rng.standard_normal(s.shape, np.float32), shapes)
        with tempfile.TemporaryDirectory() as folder:
            rows += sizes(f"{model}, random", prune(drawn, share), Path(folder))
    return rows


def _print(rows):
    table = Table(title="a pruned recognizer, dense and packed")
    scores = [name for name in rows[0] if name.endswith(("/wer", "/cer"))]
    columns = ("model", "form", "bytes", "times smaller", "times real time", *scores)
    for column in columns:
        table.add_column(column, justify="left" if column in ("model", "form") else "right")
    for row in rows:
        speed = row.get("seconds_of_sound_a_second")
        table.add_row(
            row["model"],
            row["form"],
            f"{row['bytes']:,}",
            f"{row['float32_is_larger_times']:.2f}",
            "" if speed is None else f"{speed:.0f}",
            *(f"{100 * row[name]:.2f} %" if name in row else "" for name in scores),
        )
    Console(width=120).print(table)


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_string("weights", DEFAULT_WEIGHTS, "Shipped weights, or a file.")
    flags.DEFINE_string("workdir", None, "A training run in place of weights.")
    flags.DEFINE_float("prune", 0.0, "Prune by magnitude to this share.", 0.0, 0.99)
    flags.DEFINE_string("data_dir", None, "The corpus to score on; else errors are left out.")
    flags.DEFINE_list("splits", ["test_speakers", "test_engine"], "Parts of it.")
    flags.DEFINE_integer("limit", 200, "Utterances of a part.", lower_bound=1)
    flags.DEFINE_bool("papers", True, "Also the sizes of the paper's networks.")
    flags.DEFINE_string("records", str(records.RECORDS), "Folder of the record.")


def _model(given):
    """Name, task and variables of the model that the flags ask for."""
    if given.workdir:
        name, (task, variables) = Path(given.workdir).name, restore.restore(given.workdir)
    else:
        name, (task, variables, _) = Path(given.weights).stem, load_model(given.weights)
    if given.prune:
        name, variables = f"{name}, pruned by magnitude", prune(variables, given.prune)
    variables = unpack_weights(variables)
    most = max(
        sparse.zero_share(leaf) for leaf in jax.tree.leaves(variables["params"]) if leaf.ndim > 1
    )
    if most < sparse.MIN_SPARSITY:
        raise ValueError(f"{name} is not pruned (at most {100 * most:.1f} % zero): use --prune")
    return name, task, variables


def main(argv: list[str]) -> None:
    """Measures and writes the record."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    given = flags.FLAGS
    try:
        rows = measure(*_model(given), given.data_dir, given.splits, given.limit)
    except (ValueError, OSError) as error:
        sys.exit(f"recognition: {error}")
    if given.papers:
        rows += papers_sizes()
    _print(rows)
    path = records.write_record(
        "sparse_size",
        None,
        rows,
        description="A pruned recognizer's forms: bytes on disk, error rates and speed",
        directory=given.records,
    )
    print(f"wrote {path}")


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
