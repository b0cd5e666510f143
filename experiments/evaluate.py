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
from experiments import records, restore

_DATA_DIR = flags.DEFINE_string("data_dir", None, "The corpus's folder.", required=True)
_DATASET = flags.DEFINE_enum("dataset", "maestro", ["maestro", "maps"], "The corpus's layout.")
_SPLIT = flags.DEFINE_string("split", "test", "Which part of it.")
_WEIGHTS = flags.DEFINE_string("weights", DEFAULT_WEIGHTS, "Shipped weights, or a file.")
_WORKDIR = flags.DEFINE_string("workdir", None, "A training run to score instead of weights.")
_STEP = flags.DEFINE_integer("step", None, "Which of the run's checkpoints; else the newest.")
_ONSET = flags.DEFINE_float("onset_threshold", None, "Else the model's own.")
_FRAME = flags.DEFINE_float("frame_threshold", None, "Else the model's own.")
_LIMIT = flags.DEFINE_integer("limit", None, "Score only this many recordings.", lower_bound=1)
_RECORD = flags.DEFINE_string("record", None, "Also write experiments/records/NAME.json.")

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
    if not _WORKDIR.value:
        return load_transcriber(_WEIGHTS.value)
    task, variables = restore.restore(_WORKDIR.value, _STEP.value)
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
    recordings = readers[_DATASET.value](_DATA_DIR.value, _SPLIT.value)[: _LIMIT.value]
    if not recordings:
        raise ValueError(f"{_DATA_DIR.value}: no recordings in the split {_SPLIT.value!r}")
    thresholds = {"onset_threshold": _ONSET.value, "frame_threshold": _FRAME.value}
    rows = by_instrument(recordings, score_recordings(_model(), recordings, **thresholds))
    _print_table(f"{Path(_DATA_DIR.value).name}, {_SPLIT.value}", rows)
    if _RECORD.value:
        records.write_record(
            _RECORD.value,
            description=f"Transcription scores on the {_SPLIT.value} split, means over pieces",
            command=records.running_command(),
            results=[{"instrument": name, **row} for name, row in rows.items()],
        )


def main(argv: list[str]) -> None:
    """Reads the flags and scores."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    try:
        _evaluate()
    except (ValueError, OSError) as error:
        sys.exit(f"evaluate: {error}")


if __name__ == "__main__":
    app.run(main)
