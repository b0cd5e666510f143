r"""The headline of Onsets and Frames, measured on a made corpus.

    python -m experiments.train --config=experiments/configs/onsets_and_frames.py:small \
        --config.data_dir=CORPUS --workdir=FULL
    python -m experiments.train --config=experiments/configs/onsets_and_frames.py:frames_only \
        --config.data_dir=CORPUS --workdir=FRAMES --config.num_steps=N \
        --config.optimizer.schedule.decay_share=0
    python -m experiments.claim_onsets_and_frames --full=FULL --frames_only=FRAMES --step=N \
        --data_dir=CORPUS

Scores both runs after the same number of steps on the test split: same data, order, seed and
learning rates, provided that step N lies before the full run's learning rate falls. Each run uses
the decoding that serves it best on the validation split. Writes
`experiments/records/claims/onsets_and_frames.json`.
"""

import functools
import sys
from pathlib import Path

import jax
from absl import app, flags

from deepaudio import audio, data, evaluation
from deepaudio.tasks.transcriber import make_transcriber
from experiments import _arguments, _transcription, records, restore

CLAIM = (
    "This technique results in over a 100% relative improvement in note with offset score on the "
    "MAPS dataset."
)
_KEY = "metric/note_with_offset/f1"


def measure(
    workdir: str, step: int, data_dir: str
) -> tuple[dict[str, float], dict[str, float | None]]:
    """Mean test scores of a run at a step, and the decoding chosen for it."""
    task, variables = restore.restore(workdir, step)
    predict = functools.partial(jax.jit(task.predict), variables)
    transcriber = make_transcriber(task.config, predict)
    decoding = _transcription.best_decoding(
        transcriber, data.read_maestro(data_dir, "validation"), [_KEY]
    )
    transcriber = make_transcriber(task.config, predict, **decoding)
    scores = []
    for recording in data.read_maestro(data_dir, "test"):
        blocks = audio.iter_blocks(
            recording.audio_path, sample_rate=transcriber.sample_rate, block_samples=1 << 18
        )
        notes = transcriber.notes(blocks)
        scores.append(evaluation.score_notes(data.read_midi(recording.midi_path), notes))
    return evaluation.average_scores(scores), decoding


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_string("full", None, "The run with onsets.", required=True)
    flags.DEFINE_string("frames_only", None, "The run without.", required=True)
    flags.DEFINE_integer("step", None, "Which checkpoint of both.", required=True)
    flags.DEFINE_string("data_dir", None, "The corpus's folder.", required=True)


def main(argv: list[str]) -> None:
    """Measures both and writes the record."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    values = flags.FLAGS
    arms = {}
    try:
        for name, workdir in (("full", values.full), ("frames_only", values.frames_only)):
            arms[name] = measure(workdir, values.step, values.data_dir)
    except (ValueError, OSError) as error:
        sys.exit(f"claim_onsets_and_frames: {error}")
    full, frames_only = (arms[name][0][_KEY] for name in ("full", "frames_only"))
    gain = full / frames_only - 1.0
    measured = (
        f"note-with-offset F1 {100 * full:.1f} against {100 * frames_only:.1f} by frames alone, "
        f"{100 * gain:+.0f} %, after {values.step} steps on {Path(values.data_dir).name}"
    )
    print(measured)
    records.write_record(
        "claims/onsets_and_frames",
        None,
        [{"arm": name, **chosen, **scores} for name, (scores, chosen) in arms.items()],
        description="Onsets and frames against frames alone, unseen pieces and instruments",
        paper="arXiv 1710.11153",
        claim=CLAIM,
        measured=measured,
        relative_gain=gain,
        holds=bool(gain > 1.0),
    )


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
