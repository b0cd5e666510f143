"""Scores a transcription model on a corpus, by mir_eval's conventions.

    python -m experiments.evaluate --data_dir=CORPUS                # the shipped weights
    python -m experiments.evaluate --data_dir=CORPUS --workdir=RUN  # a run's newest
    python -m experiments.evaluate --data_dir=MAPS --dataset=maps --record=maps

Prints frame, note, note-with-offset and note-with-offset-and-velocity precision, recall and F1,
averaged over whole pieces, a row an instrument and one for all. With `--record=NAME` the figures
also go to `experiments/records/NAME.json`.
"""

import functools
import sys
from pathlib import Path

import jax
from absl import app, flags
from rich.console import Console
from rich.progress import track
from rich.table import Table

from deepaudio import audio, data, evaluation
from deepaudio.tasks.transcriber import (
    DEFAULT_WEIGHTS,
    Transcriber,
    load_transcriber,
    make_transcriber,
)
from experiments import _arguments, records, restore

_LEVELS = ("frame", "note", "note_with_offset", "note_with_offset_and_velocity")
_MEASURES = ("precision", "recall", "f1")


def score_recordings(
    transcriber: Transcriber, recordings: list[data.Recording], **thresholds: float | None
) -> list[dict[str, float]]:
    """Scores of every recording, in order; names as in `evaluation.score_notes`."""
    scores = []
    for recording in track(recordings, "scoring", console=Console(stderr=True)):
        blocks = audio.iter_blocks(
            recording.audio_path, sample_rate=transcriber.sample_rate, block_samples=1 << 18
        )
        estimate = transcriber.notes(blocks, **thresholds)
        scores.append(evaluation.score_notes(data.read_midi(recording.midi_path), estimate))
    return scores


def by_instrument(
    recordings: list[data.Recording], scores: list[dict[str, float]]
) -> dict[str, dict[str, float]]:
    """Mean scores of each instrument, and of `all`, with the number of `recordings`."""
    groups = {name: [] for name in sorted({recording.instrument for recording in recordings})}
    for recording, score in zip(recordings, scores, strict=True):
        groups[recording.instrument].append(score)
    groups["all"] = scores
    return {
        name: {"recordings": len(group), **evaluation.average_scores(group)}
        for name, group in groups.items()
    }


def _model() -> Transcriber:
    if not flags.FLAGS.workdir:
        return load_transcriber(flags.FLAGS.weights)
    task, variables = restore.restore(flags.FLAGS.workdir, flags.FLAGS.step)
    return make_transcriber(task.config, functools.partial(jax.jit(task.predict), variables))


def _print_table(title: str, rows: dict[str, dict[str, float]]) -> None:
    table = Table(title=title)
    table.add_column("instrument")
    table.add_column("recordings", justify="right")
    for level in _LEVELS:
        table.add_column(level.replace("_", " ") + "\nP / R / F1", justify="right")
    for name, row in rows.items():
        cells = [
            " / ".join(f"{100 * row[f'metric/{level}/{measure}']:.2f}" for measure in _MEASURES)
            for level in _LEVELS
        ]
        table.add_row(name, str(row["recordings"]), *cells, end_section=name != "all")
    Console(width=150).print(table)


def _evaluate() -> None:
    readers = {"maps": data.read_maps, "maestro": data.read_maestro}
    recordings = readers[flags.FLAGS.dataset](flags.FLAGS.data_dir, flags.FLAGS.split)[
        : flags.FLAGS.limit
    ]
    if not recordings:
        raise ValueError(
            f"{flags.FLAGS.data_dir}: no recordings in the split {flags.FLAGS.split!r}"
        )
    thresholds = {
        "onset_threshold": flags.FLAGS.onset_threshold,
        "frame_threshold": flags.FLAGS.frame_threshold,
    }
    rows = by_instrument(recordings, score_recordings(_model(), recordings, **thresholds))
    _print_table(f"{Path(flags.FLAGS.data_dir).name}, {flags.FLAGS.split}", rows)
    if flags.FLAGS.record:
        records.write_record(
            flags.FLAGS.record,
            description=f"Transcription scores on the {flags.FLAGS.split} split, means over pieces",
            command=None,
            results=[
                {"instrument": name, **{k.removeprefix("metric/"): v for k, v in row.items()}}
                for name, row in rows.items()
            ],
        )


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_string("data_dir", None, "The corpus's folder.", required=True)
    flags.DEFINE_enum("dataset", "maestro", ["maestro", "maps"], "The corpus's layout.")
    flags.DEFINE_string("split", "test", "Which part of it.")
    flags.DEFINE_string("weights", DEFAULT_WEIGHTS, "Shipped weights, or a file.")
    flags.DEFINE_string("workdir", None, "A training run to score instead of weights.")
    flags.DEFINE_integer("step", None, "Which of the run's checkpoints; else the newest.")
    flags.DEFINE_float("onset_threshold", None, "Else the model's own.")
    flags.DEFINE_float("frame_threshold", None, "Else the model's own.")
    flags.DEFINE_integer("limit", None, "Score only this many recordings.", lower_bound=1)
    flags.DEFINE_string("record", None, "Also write experiments/records/NAME.json.")


def main(argv: list[str]) -> None:
    """Reads the flags and scores."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    try:
        _evaluate()
    except (ValueError, OSError) as error:
        sys.exit(f"evaluate: {error}")


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
